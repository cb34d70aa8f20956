# The authors published the result, but no recipe: L's.
_base_ = './upernet_unireplknet_l_in21k_640.py'

model = dict(
    backbone=dict(arch='xl', init_cfg=dict(checkpoint='checkpoints/unireplknet_xl_in21k_384.pth')),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)

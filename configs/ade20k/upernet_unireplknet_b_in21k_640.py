_base_ = './upernet_unireplknet_s_in21k_640.py'

model = dict(
    backbone=dict(arch='b', init_cfg=dict(checkpoint='checkpoints/unireplknet_b_in21k_384.pth')),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)

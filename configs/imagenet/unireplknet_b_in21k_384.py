_base_ = './unireplknet_s_in21k_384.py'

model = dict(
    backbone=dict(arch='b', init_cfg=dict(checkpoint='checkpoints/unireplknet_b_in21k_pretrain.pth')),
    head=dict(in_channels=1024),
)

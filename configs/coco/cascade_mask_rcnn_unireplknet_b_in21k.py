_base_ = './cascade_mask_rcnn_unireplknet_s_in21k.py'

model = dict(
    backbone=dict(arch='b', drop_path_rate=0.6, init_cfg=dict(checkpoint='checkpoints/unireplknet_b_in21k_384.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)

_base_ = './cascade_mask_rcnn_unireplknet_t.py'

model = dict(
    backbone=dict(arch='s', drop_path_rate=0.5, init_cfg=dict(checkpoint='checkpoints/unireplknet_s.pth')),
    neck=dict(in_channels=[96, 192, 384, 768]),
)

_base_ = './cascade_mask_rcnn_pelk_s.py'

model = dict(
    backbone=dict(arch='b', drop_path_rate=0.7, init_cfg=dict(checkpoint='checkpoints/pelk_b.pth')),
    neck=dict(in_channels=[166, 332, 665, 1331]),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))

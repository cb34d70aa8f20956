_base_ = [
    '../_base_/models/cascade_mask_rcnn_pelk.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(arch='t', drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/pelk_t.pth')),
    neck=dict(in_channels=[124, 249, 499, 998]),
)
# Mixed precision, as ConvNeXt trains its detectors, which the paper follows.
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')
# What was pruned on ImageNet stays zero: the paper's tables count 60 % of the backbone, and it follows SLaK.
custom_hooks = [dict(type='mmlk.DynamicSparsityHook', mode='static')]

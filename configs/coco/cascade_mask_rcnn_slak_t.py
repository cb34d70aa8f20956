_base_ = [
    '../_base_/models/cascade_mask_rcnn_slak.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(arch='t', drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/slak_t.pth')),
    neck=dict(in_channels=[124, 249, 499, 998]),
)
# What was pruned on ImageNet stays zero, as with the authors.
custom_hooks = [dict(type='mmlk.DynamicSparsityHook', mode='static')]

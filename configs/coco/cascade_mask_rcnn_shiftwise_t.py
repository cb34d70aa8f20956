_base_ = [
    '../_base_/models/cascade_mask_rcnn_shiftwise.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(arch='v2_t', drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/shiftwise_t.pth')),
    neck=dict(in_channels=[80, 160, 320, 640]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(layer_decay_rate=0.8, num_layers=12))
# What was pruned on ImageNet stays zero, as with the authors.
custom_hooks = [dict(type='mmlk.DynamicSparsityHook', mode='static')]

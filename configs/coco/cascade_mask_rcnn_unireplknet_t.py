_base_ = [
    '../_base_/models/cascade_mask_rcnn_unireplknet.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(arch='t', drop_path_rate=0.3, init_cfg=dict(checkpoint='checkpoints/unireplknet_t.pth')),
    neck=dict(in_channels=[80, 160, 320, 640]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(layer_decay_rate=0.8, num_layers=12))

_base_ = [
    '../_base_/models/fcos_replknet.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_2x_replknet.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(arch='31b', drop_path_rate=0.5, init_cfg=dict(checkpoint='checkpoints/replknet_31b.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)

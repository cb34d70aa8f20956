_base_ = [
    '../_base_/models/cascade_mask_rcnn_replknet.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_3x_replknet.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(arch='31b', drop_path_rate=0.6, init_cfg=dict(checkpoint='checkpoints/replknet_31b.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
# 1 image per GPU.
train_dataloader = dict(batch_size=1)

_base_ = [
    '../_base_/models/upernet_replknet.py',
    '../_base_/datasets/cityscapes_769.py',
    '../_base_/schedules/cityscapes_20k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(769, 769)),
    backbone=dict(arch='31b', drop_path_rate=0.5, init_cfg=dict(checkpoint='checkpoints/replknet_31b.pth')),
    decode_head=dict(in_channels=[128, 256, 512, 1024], num_classes=19, align_corners=True),
    auxiliary_head=dict(in_channels=512, num_classes=19, align_corners=True),
)

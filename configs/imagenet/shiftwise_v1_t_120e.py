_base_ = [
    '../_base_/models/classifier_shiftwise.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_120e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='v1_t', drop_path_rate=0.1), head=dict(in_channels=768))

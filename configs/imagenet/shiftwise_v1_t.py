# SLaK-T's recipe, as the authors train their first version, at width 1.0 (they also tried 1.1 to 1.3).
_base_ = [
    '../_base_/models/classifier_shiftwise.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='v1_t', drop_path_rate=0.1), head=dict(in_channels=768))

# 5 epochs of warm-up are the paper's; the commands of the repository leave it at 20.
_base_ = [
    '../_base_/models/classifier_unireplknet.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e_no_ema.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(
    backbone=dict(arch='a', drop_path_rate=0.0),
    head=dict(in_channels=320),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.3), dict(type='CutMix', alpha=0.3)]),
)

_base_ = [
    '../_base_/models/classifier_pelk.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='t', drop_path_rate=0.1), head=dict(in_channels=998))
# 40 % of all weights are zero; which ones changes every 2000 optimizer steps.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmlk.DynamicSparsityHook', sparsity=0.4, init='snip', interval=2000, prune_rate=0.5),
]

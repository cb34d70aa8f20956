_base_ = [
    '../_base_/models/classifier_shiftwise.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e_no_ema.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='v2_t', drop_path_rate=0.2), head=dict(in_channels=640))
# 8 GPUs x 64 images x 8 steps.
train_dataloader = dict(batch_size=64)
# 30 % of the small kernels are off. The two paths of a layer have a common mask at the beginning and after every 131st
# update, which is 7 times in this schedule, and each its own in between.
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='mmlk.DynamicSparsityHook',
        sparsity=0.3,
        init='snip',
        interval=100,
        prune_rate=0.3,
        scope='large_kernels',
        unit='kernel',
        share_interval=131,
    ),
]

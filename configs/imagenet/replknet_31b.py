_base_ = [
    '../_base_/models/classifier_replknet.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='31b', drop_path_rate=0.5), head=dict(in_channels=1024))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=300, convert_to_iter_based=True),
]
# 8 GPUs x 64 images x 4 steps = 2048.
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=4)
custom_hooks = [dict(type='EMAHook', momentum=1e-4, interval=4, update_buffers=True, priority='ABOVE_NORMAL')]

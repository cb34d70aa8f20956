# RepLKNet's fine-tuning: larger rates with a stronger decay, one epoch of warm-up, EMA.
_base_ = './imagenet_finetune_30e.py'

optim_wrapper = dict(optimizer=dict(lr=4e-4), paramwise_cfg=dict(layer_decay_rate=0.7))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.0025, by_epoch=True, begin=1, end=30, convert_to_iter_based=True),
]
custom_hooks = [dict(type='EMAHook', momentum=1e-4, update_buffers=True, priority='ABOVE_NORMAL')]

# The recipe of UniRepLKNet and SW v2: SLaK's with 5 epochs of warm-up and without EMA.
_base_ = './imagenet_300e.py'

# Stored as (1, 1, 1, C), the scales and offsets of GRN are no vectors to the authors' rule and have weight decay.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(grn=dict(decay_mult=1.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, end=300, convert_to_iter_based=True),
]
custom_hooks = []

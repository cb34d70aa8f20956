# SLaK's recipe in 120 epochs, as for the ablations of SLaK and PeLK.
_base_ = './imagenet_300e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=120, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=120)

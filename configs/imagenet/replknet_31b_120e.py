# For the paper's table of kernel sizes. Its drop path is the default of the authors' code, which has no command for it.
_base_ = './replknet_31b.py'

model = dict(backbone=dict(drop_path_rate=0.3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=120, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=120)

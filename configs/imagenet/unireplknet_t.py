_base_ = './unireplknet_a.py'

model = dict(
    backbone=dict(arch='t', drop_path_rate=0.2),
    head=dict(in_channels=640),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)

_base_ = './unireplknet_a.py'

model = dict(
    backbone=dict(arch='n', drop_path_rate=0.1),
    head=dict(in_channels=640),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.5), dict(type='CutMix', alpha=0.5)]),
)

_base_ = './unireplknet_a.py'

model = dict(backbone=dict(arch='f'), head=dict(in_channels=384))

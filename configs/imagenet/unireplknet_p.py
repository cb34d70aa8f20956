_base_ = './unireplknet_a.py'

model = dict(backbone=dict(arch='p', drop_path_rate=0.1), head=dict(in_channels=512))

_base_ = './upernet_slak_t.py'

model = dict(backbone=dict(arch='s', drop_path_rate=0.3, init_cfg=dict(checkpoint='checkpoints/slak_s.pth')))
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12))

_base_ = './upernet_replknet_31b_80k.py'

model = dict(backbone=dict(arch='31b_k7', init_cfg=dict(checkpoint='checkpoints/replknet_31b_k7_120e.pth')))

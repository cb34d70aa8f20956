_base_ = './upernet_replknet_31b_80k.py'

model = dict(backbone=dict(arch='31b_k3', init_cfg=dict(checkpoint='checkpoints/replknet_31b_k3_120e.pth')))

_base_ = './upernet_pelk_b.py'

model = dict(backbone=dict(arch='b_101', init_cfg=dict(checkpoint='checkpoints/pelk_b_101.pth')))

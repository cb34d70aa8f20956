_base_ = './pelk_b_384.py'

model = dict(
    backbone=dict(arch='b_101', init_cfg=dict(checkpoint='checkpoints/pelk_b_101.pth')),
    head=dict(init_cfg=dict(checkpoint='checkpoints/pelk_b_101.pth')),
)

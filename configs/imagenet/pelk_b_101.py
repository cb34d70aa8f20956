_base_ = './pelk_b.py'

model = dict(backbone=dict(arch='b_101'))

_base_ = './pelk_t_120e.py'

model = dict(backbone=dict(arch='t_101'))

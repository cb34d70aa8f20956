_base_ = './slak_t_120e.py'

model = dict(backbone=dict(kernel_size=(61, 59, 57, 13, 5)))

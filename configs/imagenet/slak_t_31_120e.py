_base_ = './slak_t_120e.py'

model = dict(backbone=dict(kernel_size=(31, 29, 27, 13, 5)))

_base_ = './unireplknet_s_in21k_pretrain.py'

model = dict(backbone=dict(arch='b'), head=dict(in_channels=1024))

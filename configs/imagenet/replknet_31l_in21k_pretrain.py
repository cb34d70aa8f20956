_base_ = './replknet_31b_in21k_pretrain.py'

model = dict(backbone=dict(arch='31l'), head=dict(in_channels=1536))

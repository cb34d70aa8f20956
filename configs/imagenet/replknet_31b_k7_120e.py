_base_ = './replknet_31b_120e.py'

model = dict(backbone=dict(arch='31b_k7'))

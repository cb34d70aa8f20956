# Starts from ImageNet-21K weights finetuned on ImageNet-1K, as all of the authors' larger networks here.
_base_ = './upernet_unireplknet_s.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='checkpoints/unireplknet_s_in21k_384.pth')))

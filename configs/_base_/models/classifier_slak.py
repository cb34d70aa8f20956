_base_ = './classifier.py'

model = dict(backbone=dict(type='mmlk.SLaK', conv_norm_cfg=dict(type='SyncBN')))

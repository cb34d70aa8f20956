_base_ = './classifier.py'

model = dict(backbone=dict(type='mmlk.ShiftWiseNet', conv_norm_cfg=dict(type='SyncBN')))

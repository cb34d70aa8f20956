# Departure: the authors train at 30 % (v1: 40 %) dynamic sparsity, this trains the dense network.
_base_ = './classifier.py'

model = dict(backbone=dict(type='mmlk.ShiftWiseNet', conv_norm_cfg=dict(type='SyncBN')))

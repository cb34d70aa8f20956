_base_ = './classifier.py'

model = dict(backbone=dict(type='mmlk.PeLK'))

# Departure: the authors train at 40 % dynamic sparsity, this trains the dense network.
_base_ = './classifier.py'

model = dict(backbone=dict(type='mmlk.PeLK'))

# UperNet on a PeLK backbone.
_base_ = './upernet.py'

model = dict(backbone=dict(type='mmlk.PeLK', layer_scale_init_value=1.0))

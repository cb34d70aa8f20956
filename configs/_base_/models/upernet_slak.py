# UperNet on a SLaK backbone.
_base_ = './upernet.py'

model = dict(
    backbone=dict(type='mmlk.SLaK', layer_scale_init_value=1.0, conv_norm_cfg=dict(type='SyncBN', requires_grad=True)),
)

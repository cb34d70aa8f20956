_base_ = './cascade_mask_rcnn.py'

model = dict(backbone=dict(type='mmlk.SLaK', layer_scale_init_value=1.0, conv_norm_cfg=dict(type='SyncBN')))

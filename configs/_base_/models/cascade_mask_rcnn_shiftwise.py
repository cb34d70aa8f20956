# Departure: the authors keep the pruned weights of the ImageNet checkpoint at zero (`sparse=True`); here they are
# trained.
_base_ = './cascade_mask_rcnn.py'

model = dict(backbone=dict(type='mmlk.ShiftWiseNet', layer_scale_init_value=1.0, conv_norm_cfg=dict(type='SyncBN')))

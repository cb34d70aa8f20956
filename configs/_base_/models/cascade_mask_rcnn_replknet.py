_base_ = './cascade_mask_rcnn.py'

model = dict(backbone=dict(type='mmlk.RepLKNet', norm_cfg=dict(type='SyncBN'), with_cp=True))

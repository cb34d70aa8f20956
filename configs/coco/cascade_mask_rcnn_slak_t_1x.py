# For the comparison after 120 epochs on ImageNet.
_base_ = './cascade_mask_rcnn_slak_t.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='checkpoints/slak_t_120e.pth')))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(max_epochs=12)

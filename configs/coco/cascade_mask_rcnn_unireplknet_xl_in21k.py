_base_ = './cascade_mask_rcnn_unireplknet_l_in21k.py'

model = dict(
    backbone=dict(arch='xl', init_cfg=dict(checkpoint='checkpoints/unireplknet_xl_in21k_384.pth')),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)

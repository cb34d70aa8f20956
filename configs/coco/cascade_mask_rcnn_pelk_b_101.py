_base_ = './cascade_mask_rcnn_pelk_b.py'

model = dict(backbone=dict(arch='b_101', init_cfg=dict(checkpoint='checkpoints/pelk_b_101.pth')))

_base_ = './cascade_mask_rcnn_replknet_31b.py'

model = dict(backbone=dict(drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/replknet_31b_in21k_pretrain.pth')))

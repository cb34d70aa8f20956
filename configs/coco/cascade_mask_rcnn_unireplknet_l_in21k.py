_base_ = './cascade_mask_rcnn_unireplknet_b_in21k.py'

model = dict(
    backbone=dict(arch='l', drop_path_rate=0.7, init_cfg=dict(checkpoint='checkpoints/unireplknet_l_in21k_384.pth')),
    neck=dict(in_channels=[192, 384, 768, 1536]),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))

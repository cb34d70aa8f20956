_base_ = './cascade_mask_rcnn_replknet_31b_in21k.py'

model = dict(
    backbone=dict(
        arch='31l',
        drop_path_rate=0.7,
        init_cfg=dict(checkpoint='checkpoints/replknet_31l_in21k_pretrain.pth'),
    ),
    neck=dict(in_channels=[192, 384, 768, 1536]),
)

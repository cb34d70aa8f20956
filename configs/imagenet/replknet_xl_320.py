# MegData73M, on which XL was pretrained, is not public, and no recipe of XL is: the values are those of 31L at 384.
_base_ = [
    '../_base_/models/classifier_replknet.py',
    '../_base_/datasets/imagenet_320_half.py',
    '../_base_/schedules/imagenet_finetune_30e_replknet.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(
    backbone=dict(
        arch='xl',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/replknet_xl.pth', prefix='backbone.'),
    ),
    head=dict(in_channels=2048),
    train_cfg=None,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.75, by_epoch=True, begin=1, end=30, convert_to_iter_based=True),
]
# 32 GPUs x 16 images.
train_dataloader = dict(batch_size=16)

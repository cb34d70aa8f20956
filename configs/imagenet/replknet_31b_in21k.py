_base_ = [
    '../_base_/models/classifier_replknet.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_finetune_30e_replknet.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(
    backbone=dict(
        arch='31b',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/replknet_31b_in21k_pretrain.pth', prefix='backbone.'),
    ),
    head=dict(in_channels=1024),
    train_cfg=None,
)
# 16 GPUs x 32 images.
train_dataloader = dict(batch_size=32)

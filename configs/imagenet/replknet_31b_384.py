_base_ = [
    '../_base_/models/classifier_replknet.py',
    '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/imagenet_finetune_30e_replknet.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(
    backbone=dict(
        arch='31b',
        drop_path_rate=0.8,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/replknet_31b.pth', prefix='backbone.'),
    ),
    head=dict(
        in_channels=1024,
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='checkpoints/replknet_31b.pth', prefix='head.'),
    ),
    train_cfg=None,
)
# 32 GPUs x 32 images.
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=1024)

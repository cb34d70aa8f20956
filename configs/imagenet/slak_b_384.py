# The paper gives no values for fine-tuning: these are those of ConvNeXt-B.
_base_ = [
    '../_base_/models/classifier_slak.py',
    '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/imagenet_finetune_30e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(
    backbone=dict(
        arch='b',
        drop_path_rate=0.8,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/slak_b.pth', prefix='backbone.'),
    ),
    head=dict(
        in_channels=1331,
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='checkpoints/slak_b.pth', prefix='head.'),
    ),
    train_cfg=None,
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
# 16 GPUs x 32 images.
train_dataloader = dict(batch_size=32)
# What is zero in the checkpoint stays zero.
custom_hooks = [dict(type='mmlk.DynamicSparsityHook', mode='static')]

_base_ = [
    '../_base_/models/classifier_unireplknet.py',
    '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/imagenet_finetune_30e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/unireplknet_s_in21k_pretrain.pth', prefix='backbone.'),
    ),
    # The authors scale a head of standard deviation 0.02 by 0.001.
    head=dict(in_channels=768, init_cfg=dict(std=2e-5)),
    train_cfg=None,
)
# 4 GPUs x 64 images x 2 steps.
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=2)
auto_scale_lr = dict(base_batch_size=256)

# The paper's multi-scale result is this with --tta; the authors' file for it tests at one scale, by mistake.
_base_ = [
    '../_base_/models/upernet_shiftwise.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(arch='v2_t', drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/shiftwise_t.pth')),
    decode_head=dict(in_channels=[80, 160, 320, 640]),
    auxiliary_head=dict(in_channels=320),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        # One learning rate for all layers.
        layer_decay_rate=1.0,
        decay_type='layer_wise',
        num_layers=9,
        # Stored as (1, 1, 1, C), the scales of GRN are no vectors to the authors' rule and have weight decay. So have
        # its offsets, as they are not called bias there.
        custom_keys=dict(grn=dict(decay_mult=1.0)),
    )
)
# 4 GPUs x 4 images.
train_dataloader = dict(batch_size=4)
# What was pruned on ImageNet stays zero, as with the authors.
custom_hooks = [dict(type='mmlk.DynamicSparsityHook', mode='static')]

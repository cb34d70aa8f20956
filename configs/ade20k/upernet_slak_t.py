_base_ = [
    '../_base_/models/upernet_slak.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(arch='t', drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/slak_t.pth')),
    decode_head=dict(in_channels=[124, 249, 499, 998]),
    auxiliary_head=dict(in_channels=499),
)
# 4 GPUs x 4 images.
train_dataloader = dict(batch_size=4)
# What was pruned on ImageNet stays zero, as with the authors.
custom_hooks = [dict(type='mmlk.DynamicSparsityHook', mode='static')]

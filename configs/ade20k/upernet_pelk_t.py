# The paper gives no recipe of its own for ADE20K: this is SLaK's.
_base_ = [
    '../_base_/models/upernet_pelk.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(arch='t', drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/pelk_t.pth')),
    decode_head=dict(in_channels=[124, 249, 499, 998]),
    auxiliary_head=dict(in_channels=499),
)
# The paper is silent on the weight decay of the positional embedding: none here.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(position_embedding=dict(decay_mult=0.0))))
# What was pruned on ImageNet stays zero: the paper's tables count 60 % of the backbone, and it follows SLaK.
custom_hooks = [dict(type='mmlk.DynamicSparsityHook', mode='static')]

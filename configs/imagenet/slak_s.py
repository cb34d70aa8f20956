_base_ = './slak_t.py'

model = dict(backbone=dict(arch='s', drop_path_rate=0.4))
# 8 GPUs x 64 images x 8 steps.
train_dataloader = dict(batch_size=64)
# Masks change more often and less at a time than those of T.
custom_hooks = [
    _base_.custom_hooks[0],
    dict(type='mmlk.DynamicSparsityHook', sparsity=0.4, init='snip', interval=100, prune_rate=0.3),
]

_base_ = './pelk_t.py'

model = dict(backbone=dict(arch='b', drop_path_rate=0.5), head=dict(in_channels=1331))
# Masks change more often and less at a time than those of T.
custom_hooks = [
    _base_.custom_hooks[0],
    dict(type='mmlk.DynamicSparsityHook', sparsity=0.4, init='snip', interval=100, prune_rate=0.3),
]

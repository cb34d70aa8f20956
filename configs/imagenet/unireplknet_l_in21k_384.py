# After InternImage: 20 epochs, more label smoothing, EMA.
_base_ = './unireplknet_s_in21k_384.py'

model = dict(
    backbone=dict(
        arch='l', drop_path_rate=0.3, init_cfg=dict(checkpoint='checkpoints/unireplknet_l_in21k_pretrain.pth')
    ),
    head=dict(in_channels=1536, loss=dict(label_smooth_val=0.3)),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=True, begin=0, end=20, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=20)
custom_hooks = [dict(type='EMAHook', momentum=1e-4, interval=2, update_buffers=True, priority='ABOVE_NORMAL')]

# SLaK's ImageNet recipe, which PeLK follows: batch 4096, AdamW 4e-3, 20 epochs of warm-up, cosine to 1e-6, EMA 0.9999.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(position_embedding=dict(decay_mult=0.0)),
    ),
    # 4 GPUs x 128 images x 8 steps = 4096.
    accumulative_counts=8,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=300, convert_to_iter_based=True),
]
train_cfg = dict(type='mmlk.EpochBasedTrainLoop', max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
# EMA averages optimizer steps, of which there is one in 8 iterations, and the statistics of BatchNorms too.
custom_hooks = [dict(type='EMAHook', momentum=1e-4, interval=8, update_buffers=True, priority='ABOVE_NORMAL')]
# Per iteration, 4 GPUs x 128 images: MMEngine does not count the accumulated ones.
auto_scale_lr = dict(base_batch_size=512)

# The ADE20K recipe of ConvNeXt, SLaK, PeLK, SW and UniRepLKNet: 160k iterations, AdamW, linear decay after 1500
# iterations of warm-up, learning rates decaying towards the stem. No weight decay on norms, biases, layer scale.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmlk.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.9,
        decay_type='stage_wise',
        num_layers=6,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
train_cfg = dict(type='mmlk.IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# 8 GPUs x 2 images, or 4 x 4; --auto-scale-lr fits the learning rate to any other batch.
auto_scale_lr = dict(base_batch_size=16)

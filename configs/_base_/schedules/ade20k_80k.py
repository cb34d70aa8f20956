# The ADE20K recipe of RepLKNet, also SLaK's for 80k iterations: AdamW, one learning rate for all layers, linear decay
# after a warm-up of 1 %. No weight decay on norms; biases of the heads have it, as with the authors.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=800),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=800, end=80000),
]
train_cfg = dict(type='mmlk.IterBasedTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# The batch of 32 that RepLKNet's authors count in; --auto-scale-lr fits the learning rate to any other batch.
auto_scale_lr = dict(base_batch_size=32)

# Fine-tuning after ConvNeXt: batch 512, AdamW 5e-5 decaying towards the stem, cosine to 1e-6, hardly any weight decay,
# no EMA; the leaves leave out mixup and cutmix. The smallest rate is given as a ratio, so that it decays towards the
# stem too, as in the authors' code.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-8),
    constructor='mmlk.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.8,
        decay_type='layer_wise',
        num_layers=12,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        # GRN as in imagenet_300e_no_ema.py.
        custom_keys=dict(position_embedding=dict(decay_mult=0.0), grn=dict(decay_mult=1.0)),
    ),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=True, begin=0, end=30, convert_to_iter_based=True)
]
train_cfg = dict(type='mmlk.EpochBasedTrainLoop', max_epochs=30, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=512)

# The COCO recipe of ConvNeXt, SLaK, SW and UniRepLKNet: 36 epochs, AdamW, learning rates decaying towards the stem, no
# weight decay on vectors (norms, biases, layer scale). The parameters of GRN are no vectors, as in the authors' code,
# and have weight decay; the positional embedding of PeLK, on which its paper is silent, has none.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmlk.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        decay_type='layer_wise',
        num_layers=6,
        norm_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(position_embedding=dict(decay_mult=0.0)),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(type='mmlk.EpochBasedTrainLoop', max_epochs=36, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# 8 GPUs x 2 images; --auto-scale-lr fits the learning rate to any other batch.
auto_scale_lr = dict(base_batch_size=16)

# Linear classifier on the pooled and normed vector of a backbone; backbone, size and channels are set by what inherits.
model = dict(
    type='ImageClassifier',
    backbone=dict(final_norm=True),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)

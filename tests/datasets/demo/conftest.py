"""A segmentation config in the usual style of mmseg, small enough to read, for the tests of ``--demo``."""

from copy import deepcopy

import pytest
from mmengine.config import Config

NORM = dict(type='SyncBN', requires_grad=True)
TRAIN_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
TEST_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
TTA_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(int(2048 * r), int(512 * r)), keep_ratio=True) for r in (0.5, 1.0, 1.5)],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='LoadAnnotations', reduce_zero_label=True)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
VAL_DATALOADER = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    prefetch_factor=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=TEST_PIPELINE,
    ),
)
EVALUATOR = dict(type='IoUMetric', iou_metrics=['mIoU'])


def head(kind: str, **fields) -> dict:
    return dict(
        type=kind,
        channels=16,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=NORM,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        **fields,
    )


SEGMENTATION = dict(
    default_scope='mmseg',
    norm_cfg=NORM,
    crop_size=(512, 512),
    data_root='data/ade/ADEChallengeData2016',
    train_pipeline=TRAIN_PIPELINE,
    test_pipeline=TEST_PIPELINE,
    tta_pipeline=TTA_PIPELINE,
    tta_model=dict(type='SegTTAModel'),
    model=dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            seg_pad_val=255,
            size=(512, 512),
        ),
        pretrained=None,
        backbone=dict(
            type='mmlk.PeLK',
            arch='t',
            depths=(1, 1, 2, 1),
            kernel_size=(51, 49, 47, 13),
            drop_path_rate=0.4,
            norm_cfg=dict(type='SyncBN'),
            init_cfg=dict(type='Pretrained', checkpoint='checkpoints/pelk_t.pth', prefix='backbone.'),
        ),
        decode_head=head('UPerHead', in_channels=[124, 249, 499, 998], in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6)),
        auxiliary_head=[head('FCNHead', in_channels=499, in_index=2, num_convs=1, concat_input=False)],
        train_cfg=dict(),
        test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
    ),
    train_dataloader=dict(
        batch_size=2,
        num_workers=4,
        persistent_workers=True,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dict(
            type='ADE20KDataset',
            data_root='data/ade/ADEChallengeData2016',
            data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
            pipeline=TRAIN_PIPELINE,
        ),
    ),
    val_dataloader=VAL_DATALOADER,
    test_dataloader=VAL_DATALOADER,
    val_evaluator=EVALUATOR,
    test_evaluator=EVALUATOR,
    optim_wrapper=dict(
        type='AmpOptimWrapper',
        loss_scale='dynamic',
        accumulative_counts=2,
        optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
        constructor='mmlk.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.9, decay_type='stage_wise', num_layers=6),
    ),
    param_scheduler=[
        dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
        dict(type='PolyLR', power=1.0, begin=1500, end=160000, eta_min=0.0, by_epoch=False),
    ],
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000),
    val_cfg=dict(type='ValLoop'),
    test_cfg=dict(type='TestLoop'),
    default_hooks=dict(
        logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=16000),
    ),
    load_from='checkpoints/upernet.pth',
)


@pytest.fixture
def segmentation_config():
    """Build a fresh config; options are merged in as ``--cfg-options`` would."""

    def build(**options) -> Config:
        cfg = Config(deepcopy(SEGMENTATION))
        cfg.merge_from_dict(options)
        return cfg

    return build

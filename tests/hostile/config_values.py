"""What people write into the entries of a config: right by chance, wrong by a letter, or of another kind."""

from __future__ import annotations

NAN, INFINITY = float('nan'), float('inf')

#: What is written where a number, a list or a dictionary belongs.
STRANGE = (None, 'text', '', [], {}, (), -1, 0, 3.7, True, [[]], {'type': None}, 'None', '1e-4', [1, 'two', None])
ODD_NUMBERS = (-1, 0, -0.5, 0.5, 1.5, NAN, INFINITY, -INFINITY, 10**6, 1e30, 1e-30, 2**63)

# Entry -> values; a function gets the value that the config has.

KERNEL_SIZE = {
    'kernel_size': (
        (8, 9, 7, 7), (9, 9, 7), (9, 9, 7, 0), (-9, 9, 7, 7), (9, 9, 7, 7.0), ('9', 9, 7, 7), 9, 'large', None, (), {},
        (10**9 + 1, 9, 7, 7), (9, 9, 7, None), ((9, 8), 9, 7, 7), (9, 9, 7, 7, 7, 7), [[9], [9], [7], [7]],
        (NAN, 9, 7, 7), (True, 9, 7, 7), (3, 3, 3, 3), (1, 1, 1, 1), (9, 9, 7, 7, 4), (9, 9, 7, 7, 10**7 + 1),
        '(9,9,7,7)',
    ),
}  # fmt: skip

DROP_PATH_RATE = {
    'drop_path_rate': (
        -0.1, 1.0, 1.5, NAN, INFINITY, 'high', None, [0.1], 0.999, 1, -0.0, '0.1', 1e300, True,
    ),
}  # fmt: skip

OUT_INDICES = {
    'out_indices': (
        (4,), (-1,), (), (0, 1, 2, 7), 'all', 3, None, (0.5,), ('0',), [None], (3, 2, 1, 0), (0, 0, 1, 1), (0, 1),
        [[0, 1]],
    ),
}  # fmt: skip

DEPTHS = {
    'depths': (
        (0, 1, 1, 1), (1, 1, 1), (1, -1, 1, 1), (1, 1, 1.5, 1), (1, 1, 1, 1, 1), 'deep', 4, None, (1, 'two', 1, 1),
        (10**9, 1, 1, 1), (NAN, 1, 1, 1), (INFINITY, 1, 1, 1), (True, 1, 1, 1), [[1], 1, 1, 1],
    ),
}  # fmt: skip

BACKBONE = {
    'arch': ('huge', 'T', '', 5, None, [], {'depths': (1, 1, 1, 1)}, ('t',)),
    'frozen_stages': (5, -2, 'all', 1.5, None, NAN, [1]),
    'norm_cfg': ({}, {'type': 'NoNorm'}, 'BN', {'type': 'BN', 'epsilon': 1}, {'type': 5}, []),
    'in_channels': (0, -3, 1, 4, '3', 2.5, None, 10**9),
    'init_cfg': (
        {'type': 'Pretrained'}, {'type': 'Pretrained', 'checkpoint': 5}, 'file.pth', {'type': 'Nothing'}, [1], {},
        {'type': 'Pretrained', 'checkpoint': 'no/such.pth'},
    ),
    'with_cp': ('yes', None, 5),
    'layer_scale_init_value': ('small', NAN, -1, None, INFINITY),
    'deploy': ('yes', True, None),
    'backend': ('cuda', 'nothing', 5, 'reference'),
    'final_norm': (True, 'yes'),
}  # fmt: skip

#: Of a hook for sparse training that is right otherwise.
SPARSITY_HOOK = {
    'sparsity': (-0.1, 1.0, 1.5, NAN, 'half', None, INFINITY, [0.4], 0.999999, True),
    'interval': (0, -1, 1.5, 'often', None, NAN, 10**30),
    'prune_rate': (-1, 0, 2, NAN, 'much', None),
    'init': ('snap', 5, None, 'SNIP'),
    'growth': ('none', 3, 'Random'),
    'mode': ('sleeping', None, 5, 'static'),
    'scope': ('(', 5, '', 'no_such_layer', '*'),
    'unit': ('row', 7),
    'seed': (-1, 'x', 1.5),
    'sparcity': (0.4,),
}

HOOKS = {
    'custom_hooks': (
        None, 'EMAHook', [None], ['EMAHook'], [{}], [{'type': 'EMAHok'}], {'type': 'EMAHook'}, [[{'type': 'EMAHook'}]],
        [{'type': 'EMAHook', 'momentum': 5}], [{'type': 'EMAHook', 'momentum': 'x'}],
        [{'type': 'mmlk.ERFHook', 'at': 3}], [{'type': 'EMAHook', 'ema_type': 'Nothing'}],
        [{'type': 'EarlyStoppingHook', 'monitor': 'nothing'}], [{'type': 'mmlk.SwitchToDeployHook', 'form': 'round'}],
        [{'type': 'mmlk.AccelerateHook', 'min_kernel': 'x'}], 5,
    ),
}  # fmt: skip

SCHEDULE = {
    'param_scheduler': (
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=5, end=2),
        dict(type='LinearLR', start_factor=-1, by_epoch=False),
        dict(type='LinearLR', start_factor='small', by_epoch=False),
        dict(type='PolyLR', power=NAN, by_epoch=False, begin=0, end=2),
        dict(type='PolyLR', power='x', by_epoch=False, begin=0, end=2),
        dict(type='PolyLR', power=1.0, by_epoch=False, begin=2, end=2),
        dict(type='CosineAnnealingLR', T_max=0, by_epoch=False),
        dict(type='CosineAnnealingLR', T_max=-5, by_epoch=False),
        dict(type='CosineAnnealingLR', by_epoch=False),
        dict(type='MultiStepLR', milestones=[2, 1], by_epoch=False),
        dict(type='MultiStepLR', milestones='late', by_epoch=False),
        dict(type='MultiStepLR', milestones=[0], gamma='x', by_epoch=False),
        dict(type='StepLR', step_size=0, by_epoch=False),
        dict(type='ConstantLR', factor=2, by_epoch=False),
        dict(type='ConstantLR', factor=0.5, by_epoch='yes', begin=-3, end='never'),
        dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
        dict(type='NoSuchLR'),
        dict(start_factor=1),
        [dict(type='PolyLR', by_epoch=False), 'PolyLR'],
        'PolyLR', [[]], 5, [None], {},
    ),
}  # fmt: skip

RUNNER = {
    'train_cfg': (
        None, {}, 'IterBasedTrainLoop', dict(max_iters=0), dict(by_epoch=True, max_epochs=-1), [],
        dict(type='IterBasedTrainLoop', max_iters=2, val_interval=0), dict(by_epoch=True, max_epochs='x'),
        dict(type='IterBasedTrainLoop', max_iters=NAN), dict(type='IterBasedTrainLoop', max_iters=2.5),
        dict(type='NoLoop'), dict(type='EpochBasedTrainLoop', max_iters=2), dict(by_epoch=False),
        dict(type='mmlk.IterBasedTrainLoop', max_iters=2, val_interval=-1),
        dict(type='mmlk.EpochBasedTrainLoop', max_epochs=0),
        dict(type='mmlk.EpochBasedTrainLoop', max_epochs=1, val_interval='never'),
    ),
    'val_cfg': (None, 5, dict(type='NoLoop'), dict(fp16='yes'), [], dict(type='ValLoop', every=2)),
    'val_evaluator': (
        None, {}, [], 'IoU', dict(type='NoMetric'), dict(type='Accuracy', topk='x'), [None],
        dict(type='IoUMetric', iou_metrics=['mIoO']), dict(type='CocoMetric', ann_file='none.json'),
    ),
    'randomness': (dict(seed='x'), dict(seed=-1), dict(seed=2**64), 5, None, dict(sed=1), dict(seed=1.5)),
    'env_cfg': ({}, None, dict(mp_cfg=5), dict(cudnn_benchmark='x'), dict(dist_cfg=None), 'gpu'),
    'log_level': ('LOUD', 5, None, [], 'info'),
    'load_from': ('nothing.pth', 5, '', [], '/', 'http://'),
    'resume': ('yes', 5, 'nothing.pth'),
    'visualizer': ({}, dict(type='NoVisualizer'), 5, None),
    'default_hooks': (
        None, {}, 5, dict(logger=None), dict(checkpoint=dict(type='CheckpointHook', interval='x')), dict(timer=5),
        dict(nothing=dict(type='NoHook')),
    ),
    'launcher': ('nothing', 5),
    'custom_imports': (
        dict(imports=['no_such_module']), 5, dict(imports=5), dict(imports='os', allow_failed_imports=True),
    ),
    'model_wrapper_cfg': (dict(type='NoWrapper'), 5),
    'runner_type': ('NoRunner', 5, None),
}  # fmt: skip

DATALOADER = {
    'batch_size': (0, -1, 'two', 2.5, None, NAN, [2], 10**9),
    'num_workers': (-1, 'all', 1.5, None, 10**6),
    'prefetch_factor': (2, -1, 'x'),
    'persistent_workers': (True, 'yes'),
    'sampler': (None, {}, 'DefaultSampler', dict(type='NoSampler'), dict(type='DefaultSampler', shuffel=True)),
    'collate_fn': (dict(type='nothing'), 5, 'x'),
    'dataset': (None, {}, [], 'ADE20KDataset', dict(type='NoDataset'), dict(type='RepeatDataset', times=2), 5),
    'drop_last': ('yes', 5),
    'timeout': (-1, 'x'),
    'batchsize': (2,),
}

DATASET = {
    'data_root': ('no/such/folder', 5, None, '', '/', [], '/proc/self/mem'),
    'data_prefix': (
        None, 5, {}, dict(img='nowhere'), dict(img_path='nowhere'), dict(img_path=5, seg_map_path=7), [],
    ),
    'ann_file': (5, 'nothing.json', '', '.', None, []),
    'pipeline': (
        None, [], 5, [None], ['LoadImageFromFile'], [dict(type='NoTransform')], lambda old: old[1:],
        lambda old: old[:-1], lambda old: old[::-1], lambda old: [*old, dict(type='Resize')],
        lambda old: [old[0], dict(type='Resize', scale=(0, 0)), *old[1:]],
        lambda old: [old[0], dict(type='Resize', scale=(10**7, 10**7)), *old[1:]],
        lambda old: [old[0], dict(type='RandomFlip', prob=7), *old[1:]],
    ),
    'metainfo': (5, dict(classes=('one',)), dict(classes=5), dict(classes=[]), [], dict(classes='no/file.txt')),
    'indices': (0, -1, 'x', 10**9, [0, 10**9], []),
    'test_mode': ('yes', True),
    'filter_cfg': (5, dict(min_size=10**9), dict(filter_empty='x')),
    'serialize_data': ('x', False),
    'max_refetch': (-1, 'x'),
    'lazy_init': (True, 'x'),
    'data_rot': ('data',),
}  # fmt: skip

OPTIMIZER = {
    'optimizer': (
        None, {}, 'AdamW', dict(type='AdamX', lr=1e-3), dict(type='AdamW', lr=-1), dict(type='SGD', lr='x'),
        dict(type='AdamW', lr=1e-3, betas=(2, 3)), dict(type='AdamW', lr=1e-3, momentum=0.9),
        dict(type='AdamW', lr=NAN), dict(type='AdamW', lr=1e30), dict(type='SGD', lr=None), dict(lr=1),
    ),
    'type': ('AmpWrapper', None, 5, 'AmpOptimWrapper'),
    'clip_grad': (5, dict(max_norm='x'), dict(max_value=NAN), dict(type='nothing'), dict(max_norm=-1)),
    'constructor': ('NoConstructor', 5, 'mmlk.LayerDecayConstructor'),
    'paramwise_cfg': (
        5, dict(decay_rate=-1), dict(custom_keys=5), dict(layer_decay_rate='x'), dict(num_layers=0), [],
    ),
    'accumulative_counts': (0, -1, 'x', 1.5, 10**9),
    'optimiser': (dict(type='AdamW'),),
}  # fmt: skip

#: Values of ``--cfg-options``.
OPTIONS = (
    'model', '=', '=5', 'model=', 'model=5', 'model.backbone=none', 'model.backbone.type.name=5', 'a.b.c.d=1',
    'train_dataloader.batch_size=[1,2', 'train_dataloader.batch_size=two', 'param_scheduler.9.begin=1',
    'param_scheduler.x.begin=1', 'model.backbone.depths.7=1', 'train_dataloader.dataset.pipeline.0=5', '.=1', '..=1',
    'model..backbone=5', 'work_dir=5', 'optim_wrapper.optimizer.lr=1e-3x', 'optim_wrapper.optimizer.lr=-1e-3',
    'default_scope=mmnothing', 'model.backbone.depths=(1,1,1', 'model.backbone.depths=1,1,1', 'train_cfg=None',
    'model.backbone.kernel_size=[9,9,[7,7]]', '{}=1', 'model.backbone.arch="t', 'a=\0b',
    'x=' + '[' * 50 + ']' * 50, 'launcher=none', 'model.backbone.drop_path_rate=1.5', 'val_evaluator.metric=5',
    'val_evaluator.0.metric=5', 'x=' + '(' * 2000 + ')' * 2000,
)  # fmt: skip

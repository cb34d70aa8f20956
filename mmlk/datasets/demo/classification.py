"""``--demo`` for mmpretrain: which keys of a classification config name data, sizes and augmentation."""

from __future__ import annotations

from mmlk.datasets.demo.imagenet import generate_imagenet, list_file
from mmlk.datasets.demo.recipe import DemoSettings, is_epoch_based, type_name
from mmlk.errors import UsageError

#: Number of classes by data set.
SUPPORTED_DATASETS = {'ImageNet': 1000, 'ImageNet21k': 21841}

#: A picture shows one thing, so it can be small, and a class needs many of them.
SIZES = dict(iterations=240, size=64, batch_size=32, num_train=960, num_val=160)

#: For AdamW; classifiers take smaller steps than segmentors do.
LEARNING_RATE = 1e-3

_SCALED_BACKBONES = ('PeLK', 'SLaK', 'ShiftWiseNet', 'UniRepLKNet')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_RESIZES = ('Resize', 'ResizeEdge', 'RandomResizedCrop', 'EfficientNetRandomCrop')
_CROPS = ('CenterCrop', 'RandomCrop', 'EfficientNetCenterCrop')
# A thousand pictures seen a few times are not learnt by heart: there is nothing to regularise, only to slow down.
_REGULARISERS = ('RandAugment', 'AutoAugment', 'RandomErasing', 'ColorJitter')


def check(cfg: dict) -> None:
    """Refuse configs whose data cannot be replaced by the demo's.

    Raises:
        UsageError: A data set is not ImageNet; the message says which are supported.
    """
    for name in _LOADERS:
        if cfg.get(name):
            kind = type_name(_innermost(cfg[name].get('dataset', {})))
            if kind not in SUPPORTED_DATASETS:
                raise UsageError(
                    f'The demo supports classification configs on {", ".join(SUPPORTED_DATASETS)}, '
                    f'but {name} uses {kind or "no dataset type"}; choose a config of configs/imagenet.'
                )


def adapt(cfg: dict, settings: DemoSettings) -> None:
    """Generate demo data and point a classification config to it, in place.

    The head keeps its classes: the demo's pictures have the numbers that their classes have in ImageNet.

    Args:
        cfg: Plain nested dictionary of the config.
        settings: Sizes, counts and where to put the data.
    """
    counts = dict(num_train=settings.num_train, num_val=settings.num_val)
    data_root = str(generate_imagenet(settings.root, size=settings.size, **counts))
    for name in _LOADERS:
        if cfg.get(name):
            _adapt_loader(cfg[name], data_root, settings, training=name == 'train_dataloader')
    if cfg.get('train_cfg') and cfg.get('train_dataloader') and is_epoch_based(cfg):
        cfg['train_dataloader']['dataset']['indices'] = settings.images_per_epoch
    for name in ('train_pipeline', 'test_pipeline'):
        if cfg.get(name):
            cfg[name] = _shrink_pipeline(cfg[name], settings.size)
    if 'data_root' in cfg:
        cfg['data_root'] = data_root
    _adapt_model(cfg.get('model') or {})
    if type_name((cfg.get('optim_wrapper') or {}).get('optimizer')) == 'AdamW':
        cfg['optim_wrapper']['optimizer']['lr'] = LEARNING_RATE


def _adapt_model(model: dict) -> None:
    """Leave out what only long training makes good."""
    training = model.get('train_cfg')
    if training:
        # Mixed pictures need many epochs.
        training.pop('augments', None)
    backbone = model.get('backbone') or {}
    if type_name(backbone) in _SCALED_BACKBONES:
        # From the recipes' 1e-6 the blocks would need most of so short a run to be heard at all.
        backbone['layer_scale_init_value'] = 1.0


def _innermost(dataset: dict) -> dict:
    """Unpack wrappers that only repeat pictures."""
    while type_name(dataset) in ('RepeatDataset', 'ClassBalancedDataset'):
        dataset = dataset['dataset']
    return dataset


def _adapt_loader(loader: dict, data_root: str, settings: DemoSettings, training: bool) -> None:
    """Point one data loader to the demo data."""
    dataset = loader['dataset'] = _innermost(loader['dataset'])
    split = 'train' if training else 'val'
    dataset['data_root'] = data_root
    dataset['ann_file'] = list_file(split, SUPPORTED_DATASETS[type_name(dataset)])
    dataset['data_prefix'] = split
    for key in ('split', 'indices'):
        dataset.pop(key, None)
    dataset['pipeline'] = _shrink_pipeline(dataset['pipeline'], settings.size)
    loader['batch_size'] = settings.batch_size
    loader['num_workers'] = 2 if settings.cuda else 0
    if not loader['num_workers']:
        # Both are refused by torch without workers.
        loader['persistent_workers'] = False
        loader.pop('prefetch_factor', None)
    if not settings.cuda and 'pin_memory' in loader:
        loader['pin_memory'] = False


def _shrink_pipeline(pipeline: list, size: int) -> list:
    """Make a pipeline show whole demo pictures, without what regularises long runs.

    Args:
        pipeline: Steps.
        size: Side of the pictures in pixels.

    Returns:
        The new pipeline; the old one is left alone.
    """
    result = []
    for step in pipeline:
        kind = type_name(step)
        if kind in _REGULARISERS:
            continue
        step = dict(step)
        if kind in _RESIZES:
            kept = {key: step[key] for key in ('backend', 'interpolation') if key in step}
            step = dict(type='Resize', scale=(size, size), **kept)
        elif kind in _CROPS:
            step['crop_size'] = size
        result.append(step)
    return result

"""``--demo`` for mmseg: which keys of a segmentation config name data, sizes and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.recipe import DemoSettings, as_list, is_epoch_based, type_name
from mmlk.errors import UsageError

SUPPORTED_DATASETS = ('ADE20KDataset',)
FAR_PAIR = ['boat', 'ship']

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_RESIZES = ('Resize', 'RandomResize', 'RandomChoiceResize', 'ResizeShortestEdge', 'ResizeToMultiple')
# They can cut the far cue away, and with it what decides the label.
_CUE_BREAKERS = ('RandomCutOut', 'RandomRotate', 'RandomRotFlip')


def check(cfg: dict) -> None:
    """Refuse configs whose data cannot be replaced by the demo's.

    Raises:
        UsageError: A data set is not of ADE20K's layout; the message says which are supported.
    """
    for name in _LOADERS:
        if cfg.get(name):
            kind = type_name(_innermost(cfg[name].get('dataset', {})))
            if kind not in SUPPORTED_DATASETS:
                raise UsageError(
                    f'The demo supports segmentation configs on {", ".join(SUPPORTED_DATASETS)}, '
                    f'but {name} uses {kind or "no dataset type"}; choose a config of configs/ade20k.'
                )


def adapt(cfg: dict, settings: DemoSettings) -> None:
    """Generate demo data and point a segmentation config to it, in place.

    Args:
        cfg: Plain nested dictionary of the config.
        settings: Sizes, counts and where to put the data.
    """
    counts = dict(num_train=settings.num_train, num_val=settings.num_val)
    data_root = str(generate_ade20k(settings.root, size=settings.size, **counts))
    size = (settings.size, settings.size)
    tested_at = _tested_at(cfg)
    for name in _LOADERS:
        if cfg.get(name):
            _adapt_loader(cfg[name], data_root, settings, training=name == 'train_dataloader')
    if cfg.get('train_cfg') and cfg.get('train_dataloader') and is_epoch_based(cfg):
        cfg['train_dataloader']['dataset']['indices'] = settings.images_per_epoch
    # Some of mmseg's tools read the variables that the loaders were written with.
    for name in ('train_pipeline', 'test_pipeline'):
        if cfg.get(name):
            cfg[name] = _shrink_pipeline(cfg[name], settings.size)
    if cfg.get('tta_pipeline'):
        cfg['tta_pipeline'] = _shrink_pipeline(cfg['tta_pipeline'], settings.size, tested_at)
    for name, value in (('data_root', data_root), ('crop_size', size)):
        if name in cfg:
            cfg[name] = value
    for holder in (cfg, cfg.get('model') or {}):
        if isinstance(holder.get('data_preprocessor'), dict):
            _shrink_preprocessor(holder['data_preprocessor'], size)
    _shrink_windows((cfg.get('model') or {}).get('test_cfg') or {}, settings.size)
    for name in ('val_evaluator', 'test_evaluator'):
        if cfg.get(name):
            cfg[name] = _extend_evaluator(cfg[name])


def _innermost(dataset: dict) -> dict:
    """Unpack wrappers that only repeat pictures."""
    while type_name(dataset) in ('RepeatDataset', 'ClassBalancedDataset'):
        dataset = dataset['dataset']
    return dataset


def _adapt_loader(loader: dict, data_root: str, settings: DemoSettings, training: bool) -> None:
    """Point one data loader to the demo data."""
    dataset = loader['dataset'] = _innermost(loader['dataset'])
    split = 'training' if training else 'validation'
    dataset['data_root'] = data_root
    dataset['data_prefix'] = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
    for key in ('ann_file', 'indices'):
        dataset.pop(key, None)
    dataset['pipeline'] = _shrink_pipeline(dataset['pipeline'], settings.size)
    if training:
        loader['batch_size'] = settings.batch_size
    loader['num_workers'] = 2 if settings.cuda else 0
    if not loader['num_workers']:
        # Both are refused by torch without workers.
        loader['persistent_workers'] = False
        loader.pop('prefetch_factor', None)


def _tested_at(cfg: dict) -> int | None:
    """Return the short side in pixels at which the config tests, to which the scales of TTA are relative."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    for step in loader.get('dataset', {}).get('pipeline', []):
        if type_name(step) == 'Resize' and 'scale' in step:
            return min(_pair(step['scale']))
    return None


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    """Write a size out in full."""
    return (value, value) if isinstance(value, int) else tuple(value)


def _shrink_pipeline(pipeline: list, size: int, tested_at: int | None = None) -> list:
    """Make a pipeline show whole demo pictures, so that vessel and far cue stay together.

    Args:
        pipeline: Steps, or alternatives of TTA (lists of steps).
        size: Side of the pictures in pixels.
        tested_at: Short side that becomes ``size``, other scales keeping their ratio to it; None makes all ``size``.

    Returns:
        The new pipeline; the old one is left alone.
    """
    result = []
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            result.append(_shrink_pipeline(step, size, tested_at))
            continue
        kind = type_name(step)
        if kind in _CUE_BREAKERS:
            continue
        step = dict(step)
        if kind in _RESIZES and 'scale_factor' not in step:
            side = round(size * min(_pair(step['scale'])) / tested_at) if tested_at and 'scale' in step else size
            step = dict(type='Resize', scale=(side, side), keep_ratio=True)
        elif kind == 'RandomCrop':
            step['crop_size'] = (size, size)
        elif kind == 'Pad':
            step.pop('size_divisor', None)
            step['size'] = (size, size)
        elif 'transforms' in step:
            step['transforms'] = _shrink_pipeline(step['transforms'], size, tested_at)
        result.append(step)
    return result


def _shrink_preprocessor(preprocessor: dict, size: tuple[int, int]) -> None:
    """Pad batches to the demo's size."""
    preprocessor['size'] = size
    # mmseg asks for exactly one of the two.
    preprocessor.pop('size_divisor', None)
    testing = preprocessor.get('test_cfg')
    if testing and 'size' in testing:
        testing['size'] = size


def _shrink_windows(test_cfg: dict, size: int) -> None:
    """Scale the windows of sliding inference, keeping their overlap."""
    if 'crop_size' in test_cfg:
        old = _pair(test_cfg['crop_size'])
        test_cfg['crop_size'] = (size, size)
        if 'stride' in test_cfg:
            strides = zip(_pair(test_cfg['stride']), old)
            test_cfg['stride'] = tuple(max(1, stride * size // crop) for stride, crop in strides)


def _extend_evaluator(evaluator: dict | list) -> list:
    """Keep the evaluator and add the IoU of the far pair and of the classes that the demo shows."""
    added = [
        dict(type='mmlk.SubsetIoUMetric', classes=list(FAR_PAIR), prefix='far'),
        dict(type='mmlk.SubsetIoUMetric', prefix='present'),
    ]
    # A config saved by a demo run has them already, and MMEngine refuses two metrics of one name.
    return [*(metric for metric in as_list(evaluator) if metric not in added), *added]

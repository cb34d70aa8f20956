"""``--demo`` for mmseg: which keys of a segmentation config name data, sizes and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.cityscapes import FAR_PAIR, generate_cityscapes
from mmlk.datasets.demo.recipe import DemoSettings, as_list, is_epoch_based, type_name
from mmlk.errors import UsageError


@dataclass(frozen=True)
class DemoData:
    """What stands in for a data set.

    Attributes:
        generate: Makes the data and returns its folder.
        train: Folders of pictures and label maps for training.
        val: The same for validation.
        far_pair: The two classes that only the far cue tells apart.
    """

    generate: Callable[..., Path]
    train: tuple[str, str]
    val: tuple[str, str]
    far_pair: tuple[str, str]


#: By dataset class.
DEMO_DATA = {
    'ADE20KDataset': DemoData(
        generate_ade20k,
        ('images/training', 'annotations/training'),
        ('images/validation', 'annotations/validation'),
        ('boat', 'ship'),
    ),
    'CityscapesDataset': DemoData(
        generate_cityscapes, ('leftImg8bit/train', 'gtFine/train'), ('leftImg8bit/val', 'gtFine/val'), FAR_PAIR
    ),
}

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_RESIZES = ('Resize', 'RandomResize', 'RandomChoiceResize', 'ResizeShortestEdge', 'ResizeToMultiple')
# They can cut the far cue away, and with it what decides the label.
_CUE_BREAKERS = ('RandomCutOut', 'RandomRotate', 'RandomRotFlip')


def check(cfg: dict) -> None:
    """Refuse configs whose data cannot be replaced by the demo's.

    Raises:
        UsageError: A data set is of no supported layout, or the loaders use several; the message says which.
    """
    kinds = _kinds(cfg)
    for name, kind in kinds.items():
        if kind not in DEMO_DATA:
            raise UsageError(
                f'The demo supports segmentation configs on {", ".join(DEMO_DATA)}, '
                f'but {name} uses {kind or "no dataset type"}; choose a config of configs/ade20k or configs/cityscapes.'
            )
    if len(set(kinds.values())) > 1:
        found = ', '.join(f'{name} {kind}' for name, kind in kinds.items())
        raise UsageError(f'The demo needs one dataset type in all loaders, got {found}; make them alike.')


def adapt(cfg: dict, settings: DemoSettings) -> None:
    """Generate demo data and point a segmentation config to it, in place.

    Args:
        cfg: Plain nested dictionary of the config.
        settings: Sizes, counts and where to put the data.
    """
    # A config without data, of a model alone, gets the first.
    data = DEMO_DATA[next(iter(_kinds(cfg).values()), 'ADE20KDataset')]
    counts = dict(num_train=settings.num_train, num_val=settings.num_val)
    data_root = str(data.generate(settings.root, size=settings.size, **counts))
    size = (settings.size, settings.size)
    tested_at = _tested_at(cfg)
    for name in _LOADERS:
        if cfg.get(name):
            _adapt_loader(cfg[name], data, data_root, settings, training=name == 'train_dataloader')
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
            cfg[name] = _extend_evaluator(cfg[name], data.far_pair)


def _kinds(cfg: dict) -> dict[str, str]:
    """Dataset class of every loader that the config has."""
    return {name: type_name(_innermost(cfg[name].get('dataset', {}))) for name in _LOADERS if cfg.get(name)}


def _innermost(dataset: dict) -> dict:
    """Unpack wrappers that only repeat pictures."""
    while type_name(dataset) in ('RepeatDataset', 'ClassBalancedDataset'):
        dataset = dataset['dataset']
    return dataset


def _adapt_loader(loader: dict, data: DemoData, data_root: str, settings: DemoSettings, training: bool) -> None:
    """Point one data loader to the demo data."""
    dataset = loader['dataset'] = _innermost(loader['dataset'])
    dataset['data_root'] = data_root
    dataset['data_prefix'] = dict(zip(('img_path', 'seg_map_path'), data.train if training else data.val))
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
        if kind == 'ResizeToMultiple' and tested_at:
            # One of the alternatives of TTA before it resizes.
            result.append(step)
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


def _extend_evaluator(evaluator: dict | list, far_pair: Sequence[str]) -> list:
    """Keep the evaluator and add the IoU of the far pair and of the classes that the demo shows."""
    added = [
        dict(type='mmlk.SubsetIoUMetric', classes=list(far_pair), prefix='far'),
        dict(type='mmlk.SubsetIoUMetric', prefix='present'),
    ]
    # A config saved by a demo run has them already, and MMEngine refuses two metrics of one name.
    return [*(metric for metric in as_list(evaluator) if metric not in added), *added]

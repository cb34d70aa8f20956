"""``--demo`` for mmdet: which keys of a detection config name data, sizes, regions and classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmlk.datasets.demo.coco import CLASSES, generate_coco
from mmlk.datasets.demo.recipe import DemoSettings, as_list, is_epoch_based, type_name
from mmlk.errors import UsageError

SUPPORTED_DATASETS = ('CocoDataset',)

# What a two-stage detector costs on a CPU is the regions that its heads see. A scene holds 7 things.
TRAIN_REGIONS, PROPOSALS, DETECTIONS = 16, 50, 20
# Half as many pictures per step as for segmentation: the heads cost more than the backbone.
SIZES = dict(batch_size=2)
# The losses of boxes diverge from random weights at the rate that suits segmentation.
LEARNING_RATE = 7e-4
CLIP_GRAD = dict(max_norm=10.0, norm_type=2)

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_SPLITS = {'train_dataloader': 'train2017', 'val_dataloader': 'val2017', 'test_dataloader': 'val2017'}
_RESIZES = ('Resize', 'RandomResize', 'RandomChoiceResize', 'ResizeShortestEdge')
# They can cut the far cue away, and with it what decides the label.
_CUE_BREAKERS = ('RandomCrop', 'MinIoURandomCrop', 'RandomAffine', 'CutOut')


def check(cfg: dict) -> None:
    """Refuse configs whose data cannot be replaced by the demo's.

    Raises:
        UsageError: A data set is not of COCO's layout; the message says which are supported.
    """
    for name in _LOADERS:
        if cfg.get(name):
            kind = type_name(_innermost(cfg[name].get('dataset', {})))
            if kind not in SUPPORTED_DATASETS:
                raise UsageError(
                    f'The demo supports detection configs on {", ".join(SUPPORTED_DATASETS)}, '
                    f'but {name} uses {kind or "no dataset type"}; choose a config of configs/coco.'
                )


def adapt(cfg: dict, settings: DemoSettings) -> None:
    """Generate demo data and point a detection config to it, in place.

    The heads get the classes of the demo; their layers, losses and everything before them stay.

    Args:
        cfg: Plain nested dictionary of the config.
        settings: Sizes, counts and where to put the data.
    """
    counts = dict(num_train=settings.num_train, num_val=settings.num_val)
    data_root = str(generate_coco(settings.root, size=settings.size, **counts))
    tested_at = _tested_at(cfg)
    for name in _LOADERS:
        if cfg.get(name):
            _adapt_loader(cfg[name], data_root, _SPLITS[name], settings, training=name == 'train_dataloader')
    if cfg.get('train_cfg') and cfg.get('train_dataloader') and is_epoch_based(cfg):
        cfg['train_dataloader']['dataset']['indices'] = settings.images_per_epoch
    # Some of mmdet's tools read the variables that the loaders were written with.
    for name in ('train_pipeline', 'test_pipeline'):
        if cfg.get(name):
            cfg[name] = _shrink_pipeline(cfg[name], settings.size)
    if cfg.get('tta_pipeline'):
        cfg['tta_pipeline'] = _shrink_pipeline(cfg['tta_pipeline'], settings.size, tested_at)
    if 'data_root' in cfg:
        cfg['data_root'] = data_root
    for name in ('val_evaluator', 'test_evaluator'):
        for metric in as_list(cfg.get(name)):
            if metric.get('ann_file'):
                metric['ann_file'] = f'{data_root}/annotations/instances_val2017.json'
    model = cfg.get('model') or {}
    for key, part in model.items():
        if key != 'backbone':
            for node in _nodes(part):
                if 'num_classes' in node:
                    node['num_classes'] = len(CLASSES)
    _take_fewer_regions(model)
    if cfg.get('optim_wrapper'):
        cfg['optim_wrapper'].setdefault('clip_grad', dict(CLIP_GRAD))
        if type_name(cfg['optim_wrapper'].get('optimizer')) in ('AdamW', 'Adam'):
            cfg['optim_wrapper']['optimizer']['lr'] = LEARNING_RATE


def _innermost(dataset: dict) -> dict:
    """Unpack wrappers that only repeat pictures."""
    while type_name(dataset) in ('RepeatDataset', 'ClassBalancedDataset'):
        dataset = dataset['dataset']
    return dataset


def _adapt_loader(loader: dict, data_root: str, split: str, settings: DemoSettings, training: bool) -> None:
    """Point one data loader to the demo data."""
    dataset = loader['dataset'] = _innermost(loader['dataset'])
    dataset['data_root'] = data_root
    dataset['ann_file'] = f'annotations/instances_{split}.json'
    dataset['data_prefix'] = dict(img=split)
    dataset['metainfo'] = dict(classes=CLASSES)
    dataset.pop('indices', None)
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
            return min(step['scale'])
    return None


def _shrink_pipeline(pipeline: list, size: int, tested_at: int | None = None) -> list:
    """Make a pipeline show whole demo pictures, so that vessel and far cue stay together.

    Args:
        pipeline: Steps, or alternatives of TTA (lists of steps).
        size: Side of the pictures in pixels.
        tested_at: Short side that becomes ``size``, other scales keeping their ratio to it; None makes all ``size``.

    Returns:
        The new pipeline; the old one is left alone.
    """
    result: list[Any] = []
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            result.append(_shrink_pipeline(step, size, tested_at))
            continue
        kind = type_name(step)
        if kind in _CUE_BREAKERS:
            continue
        step = dict(step)
        if kind == 'RandomChoice':
            # Without crops and scales there is nothing left to choose.
            result += _shrink_pipeline(step['transforms'][0], size, tested_at)
            continue
        if kind in _RESIZES and 'scale_factor' not in step:
            side = round(size * min(step['scale']) / tested_at) if tested_at and 'scale' in step else size
            step = dict(type='Resize', scale=(side, side), keep_ratio=True)
        elif 'transforms' in step:
            step['transforms'] = _shrink_pipeline(step['transforms'], size, tested_at)
        result.append(step)
    return result


def _take_fewer_regions(model: dict) -> None:
    """Lower the regions that the heads of a two-stage detector see; one-stage detectors stay as they are."""
    training, testing = model.get('train_cfg') or {}, model.get('test_cfg') or {}
    for stage in as_list(training.get('rcnn')):
        stage['sampler']['num'] = min(TRAIN_REGIONS, stage['sampler']['num'])
    for proposals in (training.get('rpn_proposal'), testing.get('rpn')):
        if proposals:
            proposals['max_per_img'] = min(PROPOSALS, proposals['max_per_img'])
    if testing.get('rcnn'):
        testing['rcnn']['max_per_img'] = min(DETECTIONS, testing['rcnn']['max_per_img'])


def _nodes(node: Any) -> Iterator[dict]:
    """Visit every dictionary of a nested config."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from _nodes(child)

"""Do label maps, the classes of a segmentation dataset and the heads agree? Asked before anything is built.

A label outside the classes would stop the loss in the middle of training, on CUDA with a message about an assertion.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from mmlk.datasets.decoding import read_labels
from mmlk.errors import UsageError

#: Label maps that are looked into: enough to notice another set of classes, quickly.
SAMPLE = 16
IGNORED = 255


def require_label_maps(cfg: Config, name: str, dataset: Config, labels: Path, end: str) -> None:
    """Raise unless the first label maps of a dataset hold labels that the heads know.

    Args:
        cfg: Config with ``model.decode_head`` and ``model.auxiliary_head``.
        name: Key of the dataloader, for the message.
        dataset: Its dataset.
        labels: Folder of the label maps.
        end: How their names end.

    Raises:
        UsageError: Heads and dataset have different numbers of classes, or a label map cannot be read or holds a label
            above them.
    """
    kind = str(dataset.type).split('.')[-1]
    classes = _classes(kind, dataset)
    for place, number in _heads(cfg):
        if number != classes:
            raise UsageError(
                f'{place} tells {number} classes apart, {name} has {classes}; set num_classes of every head to '
                f'{classes}, or metainfo.classes of every dataset to the classes of the heads'
            )
    # Label 0 of ADE20K means nothing, and the classes begin with 1.
    first = int(dataset.get('reduce_zero_label', kind == 'ADE20KDataset'))
    for path in sorted(labels.rglob(f'*{end}'))[:SAMPLE]:
        try:
            # As mmseg reads them: those of a palette too, which OpenCV would turn into colours.
            _, found = read_labels(path)
        except Exception as error:  # decoders raise anything on a broken file
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise UsageError(
                f'{name} expects label maps of one number per pixel, found {path}, which is none ({reason}); make it '
                'again'
            ) from error
        above = found[(found >= classes + first) & (found != IGNORED)]
        if above.size:
            raise UsageError(
                f'{name} expects labels {first} to {classes + first - 1} and {IGNORED} for what is ignored in {path}, '
                f'found {above[0]}; correct the label maps, or set metainfo.classes of the datasets and num_classes of '
                f'the heads'
            )


def _classes(kind: str, dataset: Config) -> int:
    """How many classes a dataset has: its own, or those of its type."""
    own = (dataset.get('metainfo') or {}).get('classes')
    if own is not None:
        return len(own)
    from mmseg.registry import DATASETS

    return len(DATASETS.get(kind).METAINFO['classes'])


def _heads(cfg: Config) -> Iterator[tuple[str, int]]:
    """Every head, as (place in the config, number of classes)."""
    model = cfg.get('model') or {}
    if 'module' in model:
        # Wrapped for test-time augmentation.
        model = model['module']
    for key in ('decode_head', 'auxiliary_head'):
        node = model.get(key)
        several = isinstance(node, (list, tuple))
        for index, head in enumerate(node if several else [node]):
            if head and 'num_classes' in head:
                yield f'model.{key}.{index}' if several else f'model.{key}', head['num_classes']

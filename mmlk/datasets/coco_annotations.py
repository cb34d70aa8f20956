"""Do a COCO annotation file, its pictures, the classes of the dataset and the heads agree? Asked before building.

mmdet leaves out every class that it does not find in the file, trains on, and numbers the others in the file's order.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from mmlk.errors import UsageError

# Bytes in which the list of categories and the name of the first picture are looked for; in COCO's own files, 11 kB do.
_WINDOW = 1 << 20


def require_annotations(cfg: Config, name: str, dataset: Config, layout: str) -> None:
    """Raise unless the annotation file of a COCO dataset is there, whole, and of the config's classes.

    Args:
        cfg: Config with the model.
        name: Key of the dataloader, for the message.
        dataset: Its dataset, of type ``CocoDataset``.
        layout: What the folder should look like, for the message.

    Raises:
        UsageError: Says what was expected, what was found and what to do.
    """
    path = Path(dataset.data_root) / dataset.ann_file
    if not path.is_file():
        raise UsageError(
            f'{name} expects annotations in {path}: found no such file; CocoDataset wants in {dataset.data_root} '
            f'{layout}; put or link the data there, or try the command with --demo, which generates a small set'
        )
    categories, picture = _read(path)
    folder = Path(dataset.data_root) / (dataset.get('data_prefix') or {}).get('img', '')
    if picture is not None and not (folder / picture).is_file():
        raise UsageError(
            f'{name} expects the pictures of {path} in {folder}, found no {picture} there; correct '
            f'{name}.dataset.data_prefix.img or complete the folder'
        )
    classes = _classes(dataset)
    if len(classes) != len(categories) or list(classes) != categories:
        _require_same_classes(name, path, list(classes), categories)
    for place, number in _heads(cfg):
        if number != len(classes):
            raise UsageError(
                f'{place} tells {number} classes apart, {name} has {len(classes)} ({_some(classes)}); set num_classes '
                f'of every head to {len(classes)}, or metainfo.classes of every dataset to the classes of the heads'
            )


def _read(path: Path) -> tuple[list[str], str | None]:
    """The names of the categories, in the file's order, and of the first picture, without parsing all of it."""
    if not path.stat().st_size:
        raise UsageError(f'expected a COCO annotation file, found an empty one at {path}; fetch it again')
    with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not content[-64:].rstrip().endswith(b'}'):
            raise UsageError(f'expected a complete JSON object in {path}, found one that breaks off; fetch it again')
        # It is the last list in COCO's own files.
        start = content.rfind(b'"categories"')
        categories = _decode_list(content[start : start + _WINDOW]) if start >= 0 else None
        picture = re.search(rb'"file_name"\s*:\s*"([^"\\]+)"', content[:_WINDOW])
    if not categories or not all(isinstance(entry, dict) and {'id', 'name'} <= entry.keys() for entry in categories):
        raise UsageError(
            f'expected a list "categories" with "id" and "name" each in {path}, found none; give a COCO instances file'
        )
    return [str(entry['name']) for entry in categories], picture and picture[1].decode()


def _decode_list(text: bytes) -> list | None:
    """The JSON list that ``"key": [...]`` starts with."""
    begin = text.find(b'[')
    try:
        return json.JSONDecoder().raw_decode(text[begin:].decode(errors='ignore'))[0] if begin >= 0 else None
    except json.JSONDecodeError:
        return None


def _classes(dataset: Config) -> tuple[str, ...]:
    """The classes that a dataset reads: its own, or COCO's."""
    own = (dataset.get('metainfo') or {}).get('classes')
    if own is not None:
        return (own,) if isinstance(own, str) else tuple(own)
    from mmdet.datasets import CocoDataset

    return CocoDataset.METAINFO['classes']


def _require_same_classes(name: str, path: Path, classes: list[str], categories: list[str]) -> None:
    missing = [label for label in classes if label not in categories]
    advice = (
        f'set {name}.dataset.metainfo.classes to those of the file, in its order, and num_classes of every head to '
        f'their number'
    )
    if missing:
        raise UsageError(
            f'{name} expects {len(classes)} classes in {path}, found {len(categories)} ({_some(categories)}) without '
            f'{_some(missing)}; {advice}'
        )
    # A file may have classes that are not wanted.
    if [label for label in categories if label in classes] != classes:
        raise UsageError(
            f'{name} expects its classes in the order of {path}, which is {_some(categories)}, found {_some(classes)}; '
            f'{advice}'
        )


def _heads(cfg: Config) -> Iterator[tuple[str, int]]:
    """Every classifying head, as (place in the config, number of classes)."""
    model = cfg.get('model') or {}
    if 'module' in model:
        # Wrapped for test-time augmentation.
        model = model['module']
    regions = model.get('roi_head') or {}
    for place, node in (
        ('model.bbox_head', model.get('bbox_head')),
        ('model.roi_head.bbox_head', regions.get('bbox_head')),
        ('model.roi_head.mask_head', regions.get('mask_head')),
    ):
        several = isinstance(node, (list, tuple))
        for index, head in enumerate(node if several else [node]):
            if head and 'num_classes' in head:
                yield f'{place}.{index}' if several else place, head['num_classes']


def _some(names: list[str] | tuple[str, ...], limit: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more

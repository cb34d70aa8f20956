"""What the four data sets look like when they are complete: folders, published numbers of pictures, classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from mmlk.datasets.demo.folder import STAMP


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        name: As the data set calls it.
        pictures: Folder of the pictures, below the root.
        labels: Folder of the label maps, or file with the annotations.
        count: Pictures, as published.
        archives: Official files that hold the pictures and the labels.
    """

    name: str
    pictures: str
    labels: str
    count: int
    archives: tuple[str, str]


@dataclass(frozen=True)
class Expected:
    """One data set.

    Attributes:
        kind: Dataset class that reads it, a key of ``LAYOUTS``.
        host: Module that has the class.
        root: Where the configs expect it.
        classes: Number of classes that the configs tell apart.
        splits: Its parts, training first.
        demo: Whether this is generated data, with its own numbers.
    """

    kind: str
    host: str
    root: str
    classes: int
    splits: tuple[Split, Split]
    demo: bool = False


#: By the name that ``tools/check_data.py`` takes.
EXPECTED = {
    'ade20k': Expected(
        'ADE20KDataset',
        'mmseg.datasets',
        'data/ade/ADEChallengeData2016',
        150,
        tuple(
            Split(name, f'images/{name}', f'annotations/{name}', count, ('ADEChallengeData2016.zip',) * 2)
            for name, count in (('training', 20210), ('validation', 2000))
        ),
    ),
    'cityscapes': Expected(
        'CityscapesDataset',
        'mmseg.datasets',
        'data/cityscapes',
        19,
        tuple(
            Split(
                name,
                f'leftImg8bit/{name}',
                f'gtFine/{name}',
                count,
                ('leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip'),
            )
            for name, count in (('train', 2975), ('val', 500))
        ),
    ),
    'coco': Expected(
        'CocoDataset',
        'mmdet.datasets',
        'data/coco',
        80,
        tuple(
            Split(
                name,
                name,
                f'annotations/instances_{name}.json',
                count,
                (f'{name}.zip', 'annotations_trainval2017.zip'),
            )
            for name, count in (('train2017', 118287), ('val2017', 5000))
        ),
    ),
    'imagenet': Expected(
        'ImageNet',
        'mmpretrain.datasets',
        'data/imagenet',
        1000,
        tuple(
            Split(name, name, f'meta/{name}.txt', count, (f'ILSVRC2012_img_{name}.tar', 'ILSVRC2012_devkit_t12.tar.gz'))
            for name, count in (('train', 1281167), ('val', 50000))
        ),
    ),
}


def expected_in(name: str, root: Path) -> Expected:
    """What a folder should hold: the data set as published, or what was generated where ``--demo`` made the folder."""
    published = EXPECTED[name]
    try:
        stamp = json.loads((root.parent / STAMP).read_text(encoding='utf-8'))
        counts = (stamp['num_train'], stamp['num_val']) if stamp['generator'] == name else None
    except (OSError, ValueError, KeyError, TypeError):
        counts = None
    if counts is None:
        return published
    splits = tuple(replace(split, count=count) for split, count in zip(published.splits, counts))
    own = _demo_classes(name)
    return replace(published, splits=splits, classes=len(own) if own else published.classes, demo=True)


def class_names(name: str, expected: Expected) -> Sequence[str] | None:
    """Names of the classes in the order of their numbers; ``None`` where the host that knows them is not installed."""
    own = _demo_classes(name) if expected.demo else None
    if own:
        return own
    try:
        return getattr(import_module(expected.host), expected.kind).METAINFO['classes']
    except ImportError:
        return None


def _demo_classes(name: str) -> tuple[str, ...] | None:
    """Classes of generated data that has fewer than the data set it imitates."""
    if name == 'coco':
        from mmlk.datasets.demo.coco import CLASSES

        return CLASSES
    if name == 'imagenet':
        from mmlk.datasets.demo.categories import CATEGORIES

        return tuple(category.name for category in CATEGORIES)
    return None

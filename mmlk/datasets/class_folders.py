"""Do the classes of an ImageNet-like folder, or of its list, agree with the head? Asked before anything is built."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from mmlk.errors import UsageError


def require_classes(cfg: Config, name: str, dataset: Config) -> None:
    """Raise unless the data of a classification dataset has the classes that the head tells apart.

    mmpretrain numbers the class folders in their order, so a folder too few gives all that follow a wrong number.

    Args:
        cfg: Config with ``model.head.num_classes``.
        name: Key of the dataloader, for the message.
        dataset: Its dataset, of type ``ImageNet`` or ``ImageNet21k``.

    Raises:
        UsageError: The numbers of classes of head, preprocessor and data differ, or the list is not one.
    """
    classes = (cfg.get('model') or {}).get('head', {}).get('num_classes')
    if classes is None:
        return
    encoded = (cfg.get('data_preprocessor') or {}).get('num_classes')
    if encoded not in (None, classes):
        raise UsageError(
            f'model.head.num_classes is {classes} and data_preprocessor.num_classes {encoded}; set both to the same'
        )
    root, split = Path(dataset.data_root), dataset.get('split')
    listed = root / (dataset.get('ann_file') or f'meta/{split}.txt')
    if listed.is_file():
        _require_labels(name, listed, classes)
    else:
        prefix = dataset.get('data_prefix') or split or ''
        _require_folders(name, root / (prefix if isinstance(prefix, str) else prefix['img_path']), classes)


def _require_folders(name: str, folder: Path, classes: int) -> None:
    """Raise unless a folder holds one folder per class."""
    found = sum(path.is_dir() for path in folder.iterdir())
    if found == 0:
        raise UsageError(
            f'{name} expects {classes} class folders in {folder}, found only files; move each picture into the folder '
            f'of its class'
        )
    if found != classes:
        raise UsageError(
            f'{name} expects {classes} class folders in {folder}, found {found}; complete the folder, or, for classes '
            f'of your own, set the dataset type to CustomDataset and model.head.num_classes={found}'
        )


def _require_labels(name: str, path: Path, classes: int) -> None:
    """Raise unless every line of a list ends in the number of a class."""
    with path.open(encoding='utf-8') as lines:
        for number, line in enumerate(lines, 1):
            line = line.strip()
            label = line.rsplit(maxsplit=1)[-1] if line else ''
            if not label.isdecimal() or int(label) >= classes:
                raise UsageError(
                    f'{name} expects lines such as "n01440764/n01440764_18.JPEG 0" with classes 0 to {classes - 1} in '
                    f'{path}, found {line[:80]!r} in line {number}; correct the list or set model.head.num_classes'
                )

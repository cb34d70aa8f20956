"""Is the data of a config where it says, in the layout the dataset class reads? Asked before anything is built."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from mmlk.errors import UsageError

#: What the folder in ``data_root`` looks like, by dataset class.
LAYOUTS = {
    'ADE20KDataset': (
        'images/{training,validation}/*.jpg and annotations/{training,validation}/*.png (label 0 = ignored, 1 to 150), '
        'as the archive of SceneParse150 unpacks'
    ),
    'ImageNet': 'train/<class>/*.JPEG and val/<class>/*.JPEG, a folder per class such as n01440764',
}


def require_data(cfg: Config, *dataloaders: str) -> None:
    """Raise unless the folders that the named dataloaders read exist and hold files.

    Args:
        cfg: Config with the dataloaders.
        *dataloaders: Keys such as ``'train_dataloader'``; those that are absent or None are passed over.

    Raises:
        UsageError: A folder is missing or empty, or images and label maps do not pair up. Says where it looked, which
            layout is wanted and that ``--demo`` exists.
    """
    for name in dataloaders:
        dataset = (cfg.get(name) or {}).get('dataset')
        while dataset is not None and 'dataset' in dataset:
            dataset = dataset['dataset']
        if dataset is None or dataset.get('data_root') is None:
            continue
        kind = str(dataset.type).split('.')[-1]
        for folder in _folders(dataset):
            if not folder.is_dir() or next(folder.iterdir(), None) is None:
                problem = 'found no such folder' if not folder.is_dir() else 'the folder is empty'
                layout = f'; {kind} wants in {dataset.data_root} {LAYOUTS[kind]}' if kind in LAYOUTS else ''
                raise UsageError(
                    f'{name} expects data in {folder}: {problem}{layout}; put or link the data there, or try the '
                    f'command with --demo, which generates a small set'
                )
        if kind == 'ADE20KDataset':
            _require_pairs(name, *_folders(dataset))


def _folders(dataset) -> list[Path]:
    prefixes = dict(dataset.get('data_prefix') or {})
    if not prefixes and dataset.get('split'):
        prefixes = {'split': dataset.split}
    return [Path(dataset.data_root) / prefix for prefix in prefixes.values()]


def _require_pairs(name: str, images: Path, labels: Path) -> None:
    image_names = {path.stem for path in images.glob('*.jpg')}
    without = sorted(image_names - {path.stem for path in labels.glob('*.png')})
    if not image_names or without:
        problem = f'no label map for {len(without)} images, such as {without[0]}.jpg' if without else 'no *.jpg in it'
        raise UsageError(f'{name} expects a label map {labels}/*.png for every image {images}/*.jpg, found {problem}')

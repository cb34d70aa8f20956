"""Is the data of a config where it says, in the layout the dataset class reads? Asked before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import list_dir_or_file

from mmlk.datasets.class_folders import require_classes
from mmlk.datasets.coco_annotations import require_annotations
from mmlk.datasets.label_maps import require_label_maps
from mmlk.errors import UsageError

#: What the folder in ``data_root`` looks like, by dataset class.
LAYOUTS = {
    'ADE20KDataset': (
        'images/{training,validation}/*.jpg and annotations/{training,validation}/*.png (label 0 = ignored, 1 to 150), '
        'as the archive of SceneParse150 unpacks'
    ),
    'CityscapesDataset': (
        'leftImg8bit/{train,val}/<city>/*_leftImg8bit.png and gtFine/{train,val}/<city>/*_gtFine_labelTrainIds.png '
        '(made from the *_labelIds.png of the archive by csCreateTrainIdLabelImgs of cityscapesscripts)'
    ),
    'CocoDataset': 'train2017/*.jpg, val2017/*.jpg and annotations/instances_{train,val}2017.json',
    'ImageNet': 'train/<class>/*.JPEG and val/<class>/*.JPEG, a folder per class such as n01440764',
    'ImageNet21k': 'train/<class>/*.JPEG and val/<class>/*.JPEG, the same 21841 folders in both',
}

#: How the names of pictures and of their label maps end, by dataset class; what is before has to be the same.
PAIRS = {
    'ADE20KDataset': ('.jpg', '.png'),
    'CityscapesDataset': ('_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
}


def require_data(cfg: Config, *dataloaders: str) -> None:
    """Raise unless the folders that the named dataloaders read exist and hold files.

    Args:
        cfg: Config with the dataloaders.
        *dataloaders: Keys such as ``'train_dataloader'``; those that are absent or None are passed over.

    Raises:
        UsageError: A folder is missing or empty, or images and label maps do not pair up; says where it looked, which
            layout is wanted and that ``--demo`` exists. Or a file of annotations is a pickle.
    """
    for name in dataloaders:
        dataset = (cfg.get(name) or {}).get('dataset')
        _require_no_pickle(name, dataset)
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
        if kind in PAIRS:
            if len(_folders(dataset)) < 2:
                raise UsageError(
                    f'{name}.dataset.data_prefix must have img_path and seg_map_path, the folders of pictures and of '
                    f'label maps, got {dict(dataset.get("data_prefix") or {})}'
                )
            _require_pairs(name, kind, *_folders(dataset))
            require_label_maps(cfg, name, dataset, _folders(dataset)[1], PAIRS[kind][1])
        if kind == 'CocoDataset':
            require_annotations(cfg, name, dataset, LAYOUTS[kind])
        if kind in ('ImageNet', 'ImageNet21k'):
            require_classes(cfg, name, dataset)


def _require_no_pickle(name: str, node: Any) -> None:
    """Raise if a data set, or one in it, names a file that MMEngine would unpickle, which can run anything."""
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, str) and value.lower().endswith(('.pkl', '.pickle')):
                raise UsageError(
                    f'{name}.dataset.{key} expects a file of data, got the pickle {value}, which can run code when it '
                    'is read; write it as JSON'
                )
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _require_no_pickle(name, child)


def _folders(dataset) -> list[Path]:
    prefixes = dataset.get('data_prefix') or {}
    prefixes = {'img': prefixes} if isinstance(prefixes, str) else dict(prefixes)
    if not prefixes and dataset.get('split'):
        prefixes = {'split': dataset.split}
    return [Path(dataset.data_root) / prefix for prefix in prefixes.values()]


def _require_pairs(name: str, kind: str, images: Path, labels: Path) -> None:
    image_end, label_end = PAIRS[kind]
    image_names = _names(images, image_end)
    without = sorted(image_names - _names(labels, label_end))
    if not image_names or without:
        problem = f'no *{image_end} in it'
        if without:
            problem = f'no label map for {len(without)} images, such as {without[0]}{image_end}; {kind} wants '
            problem += LAYOUTS[kind]
        raise UsageError(
            f'{name} expects a label map {labels}/*{label_end} for every image {images}/*{image_end}, found {problem}'
        )


def _names(folder: Path, end: str) -> set[str]:
    """Paths of the files below a folder that end so, without the end; found as the dataset classes find them."""
    files = list_dir_or_file(folder, list_dir=False, suffix=end, recursive=True)
    return {path.removesuffix(end) for path in files}

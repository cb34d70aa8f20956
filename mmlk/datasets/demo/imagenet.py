"""Write demo pictures to disk in the layout of ImageNet, so that mmpretrain reads them like the real thing."""

from __future__ import annotations

from pathlib import Path

from rich.progress import track

from mmlk.datasets.demo.categories import CATEGORIES
from mmlk.datasets.demo.folder import make_folder, scene_seed, write_photograph
from mmlk.datasets.demo.pictures import MIN_SIZE, render_picture

# Goes up with every change of the pictures, so that folders written by an older version are not taken for new ones.
GENERATOR_VERSION = 1
LAYOUT = 'imagenet'

# Kind and file names of every split, as in ImageNet.
_SPLITS = {'train': ('training', '{wnid}_{number}'), 'val': ('validation', 'ILSVRC2012_val_{number:08d}')}


def list_file(split: str, classes: int = 1000) -> str:
    """Path below the data root of the list of a split: ``<wnid>/<name>.JPEG <class>`` per line.

    Args:
        split: ``'train'`` or ``'val'``.
        classes: 1000 for the classes of ImageNet-1K, 21841 for those of ImageNet-21K.
    """
    return f'meta/{split}.txt' if classes == 1000 else f'meta/{split}_21k.txt'


def generate_imagenet(
    root: str | Path, *, num_train: int = 960, num_val: int = 160, size: int = 64, seed: int = 0, progress: bool = True
) -> Path:
    """Generate demo data, or find it where an earlier call left it.

    ``{train,val}/<wnid>/*.JPEG`` as in ImageNet. It has 8 of the 1000 classes, so the folders cannot give a class its
    number; the lists ``meta/{train,val}.txt`` do, which mmpretrain reads where they exist, and those ending in ``_21k``
    for ImageNet-21K. ``meta/classes.txt`` names the classes.

    Args:
        root: Where to put it; created if missing.
        num_train: Pictures in ``train``, the classes in turn.
        num_val: Pictures in ``val``.
        size: Side of every picture in pixels.
        seed: Decides every picture, non-negative.
        progress: Whether to draw a progress bar on the terminal.

    Returns:
        The ``imagenet`` folder, to be used as ``data_root``.

    Raises:
        UsageError: A parameter is out of range, ``root`` cannot be written, the disk is full, or the folder found there
            has lost files.
    """
    stamp = dict(
        generator='imagenet', version=GENERATOR_VERSION, num_train=num_train, num_val=num_val, size=size, seed=seed
    )
    counts = {'train/*/*.JPEG': num_train, 'val/*/*.JPEG': num_val, 'meta/*.txt': 5}

    def write(folder: Path) -> None:
        (folder / 'meta').mkdir()
        lists = {list_file(split, classes): [] for split in _SPLITS for classes in (1000, 21841)}
        jobs = [('train', index) for index in range(num_train)] + [('val', index) for index in range(num_val)]
        for split, index in track(jobs, description='Generating demo data', disable=not progress, transient=True):
            category = CATEGORIES[index % len(CATEGORIES)]
            place = folder / split / category.wnid
            place.mkdir(parents=True, exist_ok=True)
            kind, pattern = _SPLITS[split]
            name = f'{category.wnid}/{pattern.format(wnid=category.wnid, number=index + 1)}.JPEG'
            picture = render_picture(scene_seed(seed, kind, index), category, size)
            write_photograph(folder / split / name, picture)
            lists[list_file(split)].append(f'{name} {category.index_1k}')
            lists[list_file(split, 21841)].append(f'{name} {category.index_21k}')
        for path, lines in lists.items():
            (folder / path).write_text('\n'.join(lines) + '\n', encoding='utf-8')
        names = [f'{item.wnid} {item.index_1k} {item.index_21k} {item.name}\n' for item in CATEGORIES]
        (folder / 'meta' / 'classes.txt').write_text(''.join(names), encoding='utf-8')

    return make_folder(root, LAYOUT, stamp, write, counts, MIN_SIZE)

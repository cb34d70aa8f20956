"""Write demo scenes to disk in the layout of Cityscapes, for ``CityscapesDataset`` to read like the real thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import track

from mmlk.datasets.demo import objects
from mmlk.datasets.demo.folder import make_folder, scene_seed, write_picture
from mmlk.datasets.demo.scenes import render_scene

# Goes up with every change of the pictures or label maps.
GENERATOR_VERSION = 1
LAYOUT = 'cityscapes'
IGNORED = 255

#: Label of the scene -> train id, the position in mmseg's ``CityscapesDataset.METAINFO['classes']``. Cityscapes has no
#: water (ignored) and no vessels: the far pair is called truck and train.
TRAIN_IDS = {
    objects.ROAD: 0,
    objects.BUILDING: 2,
    objects.TOWER: 5,
    objects.TREE: 8,
    objects.GRASS: 9,
    objects.MOUNTAIN: 9,
    objects.SKY: 10,
    objects.CAR: 13,
    objects.BOAT: 14,
    objects.SHIP: 16,
}
FAR_PAIR = ('truck', 'train')

#: Folder of every split, and the one city in it.
_SPLITS = {'training': ('train', 'harbour'), 'validation': ('val', 'bay')}
_KINDS = {'leftImg8bit': 'leftImg8bit', 'gtFine': 'gtFine_labelTrainIds'}


def generate_cityscapes(
    root: str | Path, *, num_train: int = 240, num_val: int = 40, size: int = 128, seed: int = 0, progress: bool = True
) -> Path:
    """Generate demo data, or find it where an earlier call left it.

    Args:
        root: Where to put it; created if missing.
        num_train: Pictures in ``leftImg8bit/train``.
        num_val: Pictures in ``leftImg8bit/val``.
        size: Side of every picture in pixels.
        seed: Decides every picture, non-negative.
        progress: Whether to draw a progress bar on the terminal.

    Returns:
        The ``cityscapes`` folder, to be used as ``data_root``.

    Raises:
        UsageError: A parameter is out of range, ``root`` cannot be written, the disk is full, or the folder found there
            has lost files.
    """
    stamp = dict(
        generator='cityscapes', version=GENERATOR_VERSION, num_train=num_train, num_val=num_val, size=size, seed=seed
    )
    splits = {'training': num_train, 'validation': num_val}
    places = {(kind, split): '/'.join((kind, *_SPLITS[split])) for kind in _KINDS for split in splits}
    counts = {f'{place}/*_{_KINDS[kind]}.png': splits[split] for (kind, split), place in places.items()}
    train_ids = np.full(256, IGNORED, np.uint8)
    train_ids[list(TRAIN_IDS)] = list(TRAIN_IDS.values())

    def write(folder: Path) -> None:
        for place in places.values():
            (folder / place).mkdir(parents=True)
        jobs = [(split, index) for split, count in splits.items() for index in range(count)]
        for split, index in track(jobs, description='Generating demo data', disable=not progress, transient=True):
            # Alternating the cue gives both classes of the far pair the same share, also in a handful of pictures.
            scene = render_scene(scene_seed(seed, split, index), size, far_cue=index % 2)
            pixels = {'leftImg8bit': scene.image[..., ::-1], 'gtFine': train_ids[scene.label]}
            for kind, suffix in _KINDS.items():
                name = f'{_SPLITS[split][1]}_{index:06d}_000019_{suffix}.png'
                write_picture(folder / places[kind, split] / name, pixels[kind])

    return make_folder(root, LAYOUT, stamp, write, counts)

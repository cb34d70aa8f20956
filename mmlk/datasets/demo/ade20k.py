"""Write demo scenes to disk in the layout of ADE20K, so that ``ADE20KDataset`` reads them like the real thing."""

from __future__ import annotations

from pathlib import Path

from rich.progress import track

from mmlk.datasets.demo.folder import make_folder, scene_seed, write_photograph, write_picture
from mmlk.datasets.demo.scenes import render_scene

# Goes up with every change of the pictures, so that folders written by an older version are not taken for new ones.
GENERATOR_VERSION = 1
LAYOUT = 'ADEChallengeData2016'

# Folder and file prefix of every split, as in ADE20K.
_SPLITS = {'training': 'ADE_train', 'validation': 'ADE_val'}


def generate_ade20k(
    root: str | Path, *, num_train: int = 240, num_val: int = 40, size: int = 128, seed: int = 0, progress: bool = True
) -> Path:
    """Generate demo data, or find it where an earlier call left it.

    Args:
        root: Where to put it; created if missing.
        num_train: Pictures in ``images/training``.
        num_val: Pictures in ``images/validation``.
        size: Side of every picture in pixels.
        seed: Decides every picture, non-negative.
        progress: Whether to draw a progress bar on the terminal.

    Returns:
        The ``ADEChallengeData2016`` folder, to be used as ``data_root``.

    Raises:
        UsageError: A parameter is out of range, ``root`` cannot be written, the disk is full, or the folder found there
            has lost files.
    """
    stamp = dict(
        generator='ade20k', version=GENERATOR_VERSION, num_train=num_train, num_val=num_val, size=size, seed=seed
    )
    splits = {'training': num_train, 'validation': num_val}
    counts = {
        f'{kind}/{split}/*{suffix}': count
        for kind, suffix in (('images', '.jpg'), ('annotations', '.png'))
        for split, count in splits.items()
    }

    def write(folder: Path) -> None:
        for split in splits:
            for kind in ('images', 'annotations'):
                (folder / kind / split).mkdir(parents=True)
        jobs = [(split, index) for split, count in splits.items() for index in range(count)]
        for split, index in track(jobs, description='Generating demo data', disable=not progress, transient=True):
            # Alternating the cue gives both classes of the far pair the same share, also in a handful of pictures.
            scene = render_scene(scene_seed(seed, split, index), size, far_cue=index % 2)
            name = f'{_SPLITS[split]}_{index + 1:08d}'
            write_photograph(folder / 'images' / split / f'{name}.jpg', scene.image)
            write_picture(folder / 'annotations' / split / f'{name}.png', scene.label)

    return make_folder(root, LAYOUT, stamp, write, counts)

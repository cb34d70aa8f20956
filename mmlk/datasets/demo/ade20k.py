"""Write demo scenes to disk in the layout of ADE20K, so that ``ADE20KDataset`` reads them like the real thing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import cv2
from rich.progress import track

from mmlk.datasets.demo.scenes import MIN_SIZE, render_scene
from mmlk.errors import UsageError

# Goes up with every change of the pictures, so that folders written by an older version are not taken for new ones.
GENERATOR_VERSION = 1
LAYOUT = 'ADEChallengeData2016'
STAMP = 'demo.json'
JPEG_QUALITY = 95

# Folder and file prefix of every split, as in ADE20K.
_SPLITS = {'training': 'ADE_train', 'validation': 'ADE_val'}


def scene_seed(seed: int, split: str, index: int) -> int:
    """Return the seed of one picture; training seeds are even and validation seeds odd, so no two splits share one.

    Args:
        seed: Seed of the data set, non-negative.
        split: ``'training'`` or ``'validation'``.
        index: Position in the split, from 0, below 2**31.

    Example:
        >>> scene_seed(0, 'training', 3), scene_seed(0, 'validation', 3)
        (6, 7)
    """
    return (seed << 32) + 2 * index + list(_SPLITS).index(split)


def generate_ade20k(
    root: str | Path, *, num_train: int = 240, num_val: int = 40, size: int = 128, seed: int = 0, progress: bool = True
) -> Path:
    """Generate demo data, or find it where an earlier call left it.

    Every set of parameters has its own folder below ``root``. The folder appears complete or not at all, also when
    several processes generate it at once.

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
    parameters = dict(num_train=num_train, num_val=num_val, size=size, seed=seed)
    for name, least in (('num_train', 1), ('num_val', 1), ('size', MIN_SIZE), ('seed', 0)):
        value = parameters[name]
        if not isinstance(value, int) or value < least:
            raise UsageError(f'Demo data needs {name} to be an integer of at least {least}, got {value!r}.')
    stamp = dict(generator='ade20k', version=GENERATOR_VERSION, **parameters)
    digest = hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(root) / f'ade20k_{digest}'
    try:
        if not folder.exists():
            _build(folder, stamp, progress)
        _check(folder, stamp)
    except OSError as error:
        reason = 'the disk is full' if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise UsageError(
            f'Demo data cannot be written to {Path(root)}: {reason}; free the place or choose another folder.'
        ) from error
    return folder / LAYOUT


def _build(folder: Path, stamp: dict, progress: bool) -> None:
    """Write a data set beside ``folder`` and move it there in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
    try:
        # A folder inside the temporary one gets the user's usual permissions; mkdtemp's own is private.
        unfinished = workshop / folder.name
        _write(unfinished, stamp, progress)
        try:
            os.rename(unfinished, folder)
        except OSError:
            # Another process was faster: its folder holds the same pictures.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _write(folder: Path, stamp: dict, progress: bool) -> None:
    """Write every file of a data set into ``folder``."""
    counts = {'training': stamp['num_train'], 'validation': stamp['num_val']}
    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    for split in _SPLITS:
        for kind in ('images', 'annotations'):
            (folder / LAYOUT / kind / split).mkdir(parents=True)
    for split, index in track(jobs, description='Generating demo data', disable=not progress, transient=True):
        # Alternating the cue gives both classes of the far pair the same share, also in a handful of pictures.
        scene = render_scene(scene_seed(stamp['seed'], split, index), stamp['size'], far_cue=index % 2)
        name = f'{_SPLITS[split]}_{index + 1:08d}'
        _write_picture(
            folder / LAYOUT / 'images' / split / f'{name}.jpg',
            scene.image[..., ::-1],
            [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        )
        _write_picture(folder / LAYOUT / 'annotations' / split / f'{name}.png', scene.label, [])
    (folder / STAMP).write_text(json.dumps(stamp, indent=2) + '\n', encoding='utf-8')


def _write_picture(path: Path, pixels, options: list[int]) -> None:
    """Encode and write; ``cv2.imwrite`` would answer a full disk with False and no reason."""
    encoded, data = cv2.imencode(path.suffix, pixels, options)
    if not encoded:
        raise RuntimeError(f'OpenCV could not encode {path.name}.')
    path.write_bytes(data.tobytes())


def _check(folder: Path, stamp: dict) -> None:
    """Make sure that a finished folder is still whole."""
    expected = {'training': stamp['num_train'], 'validation': stamp['num_val']}
    for kind, suffix in (('images', '.jpg'), ('annotations', '.png')):
        for split, count in expected.items():
            place = folder / LAYOUT / kind / split
            found = sum(name.endswith(suffix) for name in os.listdir(place)) if place.is_dir() else 0
            if found != count:
                raise UsageError(
                    f'Demo data in {folder} is damaged: expected {count} files in {kind}/{split}, '
                    f'found {found}; delete the folder and run again.'
                )
    try:
        written = json.loads((folder / STAMP).read_text(encoding='utf-8'))
    except (FileNotFoundError, json.JSONDecodeError):
        written = None
    if written != stamp:
        raise UsageError(f'Demo data in {folder} has no matching {STAMP}; delete the folder and run again.')

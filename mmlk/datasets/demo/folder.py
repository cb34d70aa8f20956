"""Folders of generated data: one per set of parameters, complete or absent, and checked before use."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
from numpy.typing import NDArray

from mmlk.datasets.demo.scenes import MIN_SIZE
from mmlk.errors import UsageError

try:
    import fcntl
except ImportError:
    # Windows has none.
    fcntl = None

STAMP = 'demo.json'
JPEG_QUALITY = 95


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
    return (seed << 32) + 2 * index + ('training', 'validation').index(split)


def make_folder(
    root: str | Path,
    layout: str,
    stamp: Mapping[str, object],
    write: Callable[[Path], None],
    counts: Mapping[str, int],
    min_size: int = MIN_SIZE,
) -> Path:
    """Generate demo data, or find it where an earlier call left it.

    Every stamp has its own folder below ``root``, which appears complete or not at all, also when several processes
    generate it at once: one of them writes, the others wait for it.

    Args:
        root: Where to put it; created if missing.
        layout: Name of the folder in it that imitates a data set.
        stamp: What decides the data: ``generator``, ``version`` and the integers ``num_train``, ``num_val``, ``size``,
            ``seed``; written beside the data.
        write: Called with the path of an empty ``layout`` folder to fill.
        counts: Patterns below ``layout``, such as ``'images/training/*.jpg'``, and the files that must match each.
        min_size: Smallest ``size`` in pixels.

    Returns:
        The ``layout`` folder, to be used as ``data_root``.

    Raises:
        UsageError: A parameter is out of range, ``root`` cannot be written, the disk is full, or the folder found there
            has lost files.
    """
    for name, least in (('num_train', 1), ('num_val', 1), ('size', min_size), ('seed', 0)):
        value = stamp[name]
        if not isinstance(value, int) or value < least:
            raise UsageError(f'Demo data needs {name} to be an integer of at least {least}, got {value!r}.')
    digest = hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(root) / f'{stamp["generator"]}_{digest}'
    try:
        if not folder.exists():
            Path(root).mkdir(parents=True, exist_ok=True)
            with _alone_in(Path(root)):
                # Another process may have made it while this one waited.
                if not folder.exists():
                    _build(folder, layout, stamp, write)
        _check(folder, layout, stamp, counts)
    except OSError as error:
        reason = 'the disk is full' if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise UsageError(
            f'Demo data cannot be written to {Path(root)}: {reason}; free the place or choose another folder.'
        ) from error
    return folder / layout


def write_picture(path: Path, pixels: NDArray, options: tuple[int, ...] = ()) -> None:
    """Encode and write; ``cv2.imwrite`` would answer a full disk with False and no reason."""
    encoded, data = cv2.imencode(path.suffix, pixels, options)
    if not encoded:
        raise RuntimeError(f'OpenCV could not encode {path.name}.')
    path.write_bytes(data.tobytes())


def write_photograph(path: Path, rgb: NDArray) -> None:
    """Write an RGB picture (H, W, 3) uint8 as JPEG."""
    write_picture(path, rgb[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))


@contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Let one process at a time into the block; where folders cannot be locked, all of them do the same work."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Releases the lock, as the end of a process does.
        os.close(descriptor)


def _build(folder: Path, layout: str, stamp: Mapping[str, object], write: Callable[[Path], None]) -> None:
    """Write a data set beside ``folder`` and move it there in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
    try:
        # A folder inside the temporary one gets the user's usual permissions; mkdtemp's own is private.
        unfinished = workshop / folder.name
        (unfinished / layout).mkdir(parents=True)
        write(unfinished / layout)
        (unfinished / STAMP).write_text(json.dumps(stamp, indent=2) + '\n', encoding='utf-8')
        try:
            os.rename(unfinished, folder)
        except OSError:
            # Another process was faster: its folder holds the same pictures.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _check(folder: Path, layout: str, stamp: Mapping[str, object], counts: Mapping[str, int]) -> None:
    """Make sure that a finished folder is still whole."""
    for pattern, count in counts.items():
        found = sum(1 for _ in (folder / layout).glob(pattern))
        if found != count:
            raise UsageError(
                f'Demo data in {folder} is damaged: expected {count} files in {Path(pattern).parent}, '
                f'found {found}; delete the folder and run again.'
            )
    try:
        written = json.loads((folder / STAMP).read_text(encoding='utf-8'))
    except (FileNotFoundError, json.JSONDecodeError):
        written = None
    if written != stamp:
        raise UsageError(f'Demo data in {folder} has no matching {STAMP}; delete the folder and run again.')

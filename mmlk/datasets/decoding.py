"""Decode a picture or a label map to its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        # Pillow's sentence has the path in it, which stands before it wherever it is printed.
        raise ValueError('no picture of a known format') from None


def read_size(path: Path) -> tuple[int, int]:
    """Decode a picture.

    Returns:
        Width and height in pixels.

    Raises:
        Exception: Of any kind: it cannot be decoded to its end.
    """
    with _opened(path) as image:
        size = image.size
        # A JPEG is read to its end also where only an eighth of its pixels is wanted.
        image.draft(image.mode, (1, 1))
        image.load()
    return size


def read_labels(path: Path) -> tuple[tuple[int, int], NDArray[np.int64]]:
    """Decode a label map.

    Returns:
        Width and height in pixels, and the labels that occur, ascending.

    Raises:
        ValueError: It is a coloured picture.
        Exception: Of any other kind: it cannot be decoded.
    """
    with _opened(path) as image:
        # Of a picture with a palette these are the places in the palette, as mmseg reads them.
        labels = np.asarray(image)
    if labels.ndim != 2:
        raise ValueError(f'a picture with {labels.shape[2]} colours instead of one label per pixel')
    return (labels.shape[1], labels.shape[0]), np.unique(labels).astype(np.int64)

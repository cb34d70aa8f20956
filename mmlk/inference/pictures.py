"""Finding, reading and writing pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from mmlk.errors import UsageError
from mmlk.files import write_whole

#: Files of a folder that are taken for pictures.
SUFFIXES = frozenset(['.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp'])

#: Formats in which pictures are written; others become PNG.
WRITTEN = frozenset(['.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'])

_PARAMETERS = {'.jpg': [cv2.IMWRITE_JPEG_QUALITY, 95], '.jpeg': [cv2.IMWRITE_JPEG_QUALITY, 95]}


class PictureError(UsageError):
    """Raised where one picture cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Picture:
    """A picture that was read.

    Attributes:
        name: Its path below the folder that was given, with forward slashes.
        path: Where it was read.
        image: Pixels (H, W, 3), uint8, BGR, turned upright.
    """

    name: str
    path: Path
    image: np.ndarray


def find_pictures(source: Path, skip: Path | None = None) -> tuple[list[str], list[str]]:
    """The pictures that a path stands for.

    Args:
        source: A picture, or a folder that is searched with the folders in it.
        skip: Folder that is left out.

    Returns:
        Names of the pictures relative to the folder, sorted, and names of the files that were left out because their
        suffix is not that of a picture. A single file is a picture whatever its suffix.

    Raises:
        UsageError: There is nothing at ``source``, or no picture in the folder.
    """
    if source.is_file():
        return [source.name], []
    if not source.is_dir():
        raise UsageError(f'expected a picture or a folder of pictures, found nothing at {source}; correct the path')
    pictures, others = [], []
    for folder, folders, files in os.walk(source):
        # In place: what is taken out of the list is not walked into.
        folders[:] = [name for name in folders if not (name.startswith('.') or _is_same(Path(folder, name), skip))]
        for file in files:
            if not file.startswith('.'):
                found = pictures if Path(file).suffix.lower() in SUFFIXES else others
                found.append(Path(folder, file).relative_to(source).as_posix())
    if not pictures:
        raise UsageError(
            f'expected pictures in {source}, found none among {len(others)} files; pictures end in '
            f'{", ".join(sorted(SUFFIXES))}'
        )
    return sorted(pictures), sorted(others)


def read_picture(path: Path, name: str | None = None) -> Picture:
    """Read a picture as the hosts' pipelines do, and refuse one that is not whole.

    Grey, CMYK, palette and 16-bit pictures become 8-bit colour (the high byte of 16), an alpha channel is dropped, and
    the orientation that a camera noted is applied.

    Args:
        path: The file.
        name: Its name in the results; ``None`` takes that of the file.

    Raises:
        PictureError: It cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PictureError(f'{path}: cannot be read ({error.strerror})') from error
    if not content:
        raise PictureError(f'{path}: is empty')
    try:
        # OpenCV fills what is missing of a truncated file with grey; Pillow says that it is truncated.
        with Image.open(io.BytesIO(content)) as image:
            mode = image.mode
            image.draft(mode, (1, 1))
            image.load()
    except Exception as error:  # decoders raise anything on a broken file
        raise PictureError(f'{path}: {_reason(error)}') from error
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype != np.uint8:
        if mode in ('F', 'I'):
            raise PictureError(f'{path}: has pixels of 32 bits, expected 8 or 16; convert it')
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))[..., ::-1]
    return Picture(name or path.name, path, np.ascontiguousarray(pixels))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return 'is not a picture of a known format'
    return f'cannot be decoded ({str(error).strip().partition(chr(10))[0] or type(error).__name__})'


def output_names(names: Iterable[str], suffixes: frozenset[str]) -> dict[str, str]:
    """Names to write under, no two alike: the same, or ``.png`` behind them where the suffix is none of these."""
    names = list(names)
    taken = {name for name in names if Path(name).suffix.lower() in suffixes}
    outputs = {name: name for name in taken}
    for name in names:
        if name not in outputs:
            output = f'{name}.png'
            while output in taken:
                output += '.png'
            taken.add(output)
            outputs[name] = output
    return outputs


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write a picture, BGR or of one channel, in the format of its suffix; the file appears when it is complete."""
    suffix = path.suffix.lower()
    _, content = cv2.imencode(suffix, pixels, _PARAMETERS.get(suffix, []))
    write_file(path, content.tobytes())


def write_file(path: Path, content: bytes) -> None:
    """Write a file, which appears only when it is complete.

    Raises:
        UsageError: It cannot be written there.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise UsageError(f'{path} could not be written ({error.strerror}); give --out a place that can be') from error


def _is_same(path: Path, other: Path | None) -> bool:
    return other is not None and path.resolve() == other.resolve()

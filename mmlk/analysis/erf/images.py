"""Where the images of an effective receptive field come from: a folder, the data set of a config, generated scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmlk.errors import UsageError

SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'}

#: Of ImageNet, in the range of uint8, RGB.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

#: Generated scenes are painted this large and resized, as the protocol resizes every image; painting takes about 1 s.
SCENE_SIZE = 256


@dataclass(frozen=True)
class ImageSource:
    """Pictures of one size, read one by one.

    Attributes:
        description: What they are, for titles and results.
        count: How many there are.
        size: (H, W) they are resized to, in pixels; their proportions are not kept, as published.
        read: Gives the picture of an index, RGB (h, w, 3) uint8.
        files: Their paths; empty for generated ones.
        asked: How many were asked for.
    """

    description: str
    count: int
    size: tuple[int, int]
    read: Callable[[int], NDArray[np.uint8]]
    files: tuple[Path, ...] = ()
    asked: int = 0

    def __str__(self) -> str:
        images = 'image' if self.count == 1 else 'images'
        return f'{self.count} {images} of {self.size[0]} x {self.size[1]} ({self.description})'

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """Pictures (H, W, 3), RGB, bicubic."""
        height, width = self.size
        for index in range(self.count):
            picture = Image.fromarray(self.read(index))
            yield np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))

    def tensors(self, mean: Sequence[float] = MEAN, std: Sequence[float] = STD, bgr: bool = False) -> Iterator[Tensor]:
        """Normalised images (1, 3, H, W), float32.

        Args:
            mean: Per channel, in the range of uint8, in the order of the network's channels.
            std: As ``mean``.
            bgr: Whether the network sees blue first.
        """
        for picture in self.pictures():
            image = torch.from_numpy(np.array(picture[..., ::-1] if bgr else picture)).float()
            yield ((image - torch.tensor(mean)) / torch.tensor(std)).permute(2, 0, 1)[None].contiguous()


def folder_images(folder: str | Path, num_images: int, size: tuple[int, int], first: bool = False) -> ImageSource:
    """Pictures of a folder and the folders in it.

    Args:
        folder: The folder.
        num_images: How many are wanted; fewer are taken where there are fewer.
        size: (H, W) in pixels.
        first: Take the first ones, sorted by path, as the authors' scripts do; otherwise they are spread evenly. In a
            folder sorted by class the first 50 of ImageNet's validation set are all of one class.

    Raises:
        UsageError: There is no such folder or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f'expected a folder of pictures, found none at {folder}; correct the path')
    files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UsageError(f'expected pictures ({", ".join(sorted(SUFFIXES))}) in {folder}, found none')
    return _files(f'{folder}', files, num_images, size, first)


def dataset_images(
    dataset: object, name: str, num_images: int, size: tuple[int, int], first: bool = False
) -> ImageSource | None:
    """Pictures of a data set of MMEngine, by the ``img_path`` of its records; ``None`` where it has no such files.

    Args:
        dataset: The data set, whose transforms are not run.
        name: For the description.
        num_images: How many are wanted.
        size: (H, W) in pixels.
        first: As for :func:`folder_images`.
    """
    total = len(dataset)
    info = getattr(dataset, 'get_data_info', None)
    if info is None or not total:
        return None
    chosen = _choose(total, num_images, first)
    records = [info(index) for index in chosen]
    paths = [Path(record['img_path']) for record in records if isinstance(record, dict) and 'img_path' in record]
    if len(paths) < len(chosen) or not paths[0].is_file():
        return None
    source = _files(name, paths, len(paths), size, True)
    return ImageSource(source.description, source.count, size, source.read, source.files, num_images)


def scene_images(num_images: int, size: tuple[int, int], seed: int = 0, scene_size: int = SCENE_SIZE) -> ImageSource:
    """Generated coastal scenes, for where no pictures are at hand.

    They have the large areas, edges and textures of photographs, but no more than ten kinds of things. A network's
    field depends little on which pictures it is averaged over, but published figures are of ImageNet.

    Args:
        num_images: How many.
        size: (H, W) in pixels.
        seed: Of the first scene.
        scene_size: Edge they are painted with, at least 96 pixels.
    """
    from mmlk.datasets.demo.scenes import render_scene

    # Painting takes longer than many a network; fifty scenes are 10 MB.
    @cache
    def read(index: int) -> NDArray[np.uint8]:
        return render_scene(seed + index, scene_size).image

    return ImageSource('generated scenes', num_images, tuple(size), read, (), num_images)


def _files(name: str, files: Sequence[Path], num_images: int, size: tuple[int, int], first: bool) -> ImageSource:
    chosen = tuple(files[index] for index in _choose(len(files), num_images, first))

    def read(index: int) -> NDArray[np.uint8]:
        try:
            with Image.open(chosen[index]) as picture:
                return np.asarray(picture.convert('RGB'))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise UsageError(f'{chosen[index]} cannot be read as a picture ({error}); mend or remove it') from None

    return ImageSource(name, len(chosen), tuple(size), read, chosen, num_images)


def _choose(total: int, wanted: int, first: bool) -> list[int]:
    count = min(total, wanted)
    return list(range(count)) if first else [index * total // count for index in range(count)]

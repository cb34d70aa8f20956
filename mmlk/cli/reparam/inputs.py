"""Images on which two forms of a model are compared: random ones, or a user's through the test pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from torch import Tensor, nn

from mmlk.errors import UsageError

#: (H, W) in pixels: maps far smaller than the kernels, odd and rectangular ones, a common one.
SIZES = ((64, 64), (75, 53), (96, 160), (224, 224))
PICTURES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

Input = tuple[str, Callable[[], Tensor]]


def random_inputs(sizes: Sequence[tuple[int, int]]) -> list[Input]:
    """One normally distributed image (1, 3, H, W) per size, the same in every call."""
    return [(f'{height} x {width}', partial(_random_image, height, width)) for height, width in sizes]


def picture_inputs(cfg: Config, preprocessor: nn.Module, folder: Path, count: int) -> list[Input]:
    """The first pictures of a folder, by name, as the test pipeline and the data preprocessor of a config give them.

    Args:
        cfg: Config with a ``test_dataloader``.
        preprocessor: Data preprocessor of the model.
        folder: Where the pictures are, in subfolders too.
        count: How many to take at most.

    Raises:
        UsageError: There are no pictures, or the config has no test pipeline.
    """
    if not folder.is_dir():
        raise UsageError(f'--verify-images expects a folder of pictures, found none at {folder}')
    files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in PICTURES)
    if not files:
        raise UsageError(f'--verify-images expects pictures ({" ".join(PICTURES)}), found none in {folder}')
    dataset = (cfg.get('test_dataloader') or {}).get('dataset', {})
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'pipeline' not in dataset:
        raise UsageError('--verify-images needs test_dataloader.dataset.pipeline in the config, it has none')
    # Pictures have no labels.
    steps = [step for step in dataset['pipeline'] if not step['type'].rpartition('.')[2].startswith('LoadAnno')]
    pipeline = TRANSFORMS.build(dict(type='Compose', transforms=steps))
    return [(str(path.relative_to(folder)), partial(_picture, path, pipeline, preprocessor)) for path in files[:count]]


def _random_image(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, height, width, generator=generator)


def _picture(path: Path, pipeline: Callable[[dict], dict], preprocessor: nn.Module) -> Tensor:
    # mmdet's pipelines keep the number of the image, mmseg's ask for what labels would be changed.
    packed = pipeline({'img_path': str(path), 'img_id': 0, 'seg_fields': [], 'reduce_zero_label': None})
    preprocessor.float()
    batch = {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
    return preprocessor(batch, False)['inputs'].float()

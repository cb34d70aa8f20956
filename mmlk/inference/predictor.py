"""A model of any of the three hosts, from its config and checkpoint to predictions."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader

from mmlk.checkpoints.fit import require_fit, unwrap_state_dict
from mmlk.errors import UsageError
from mmlk.inference.pictures import Picture, PictureError
from mmlk.models.reparam import switch_to_deploy

#: Scopes of the hosts, and what each predicts.
TASKS = {'mmpretrain': 'classification', 'mmdet': 'detection', 'mmseg': 'segmentation'}

#: What a transform raises on a picture that it cannot handle, such as one that it would resize to nothing.
PICTURE_ERRORS = (cv2.error, ValueError, AssertionError, RuntimeError, ZeroDivisionError, IndexError)


class Predictor:
    """The model of a config with the weights of a checkpoint, ready to predict.

    The hosts have inferencers of their own. Given no config they run the one in the checkpoint, which is Python from a
    file; this class never does. It reads the checkpoint safely and refuses one that does not fit.

    Args:
        cfg: Config of a classifier, detector or segmentor.
        checkpoint: Path or address of the weights.
        device: Device to predict on.
        deploy: Fuse the model after loading.

    Attributes:
        task: ``'classification'``, ``'detection'`` or ``'segmentation'``.
        classes: Names of the classes: those the checkpoint was trained on, else those of the config's data set.
        palette: RGB colours of the classes, ``None`` where neither has any.

    Raises:
        UsageError: The config is of no known host or has no test pipeline, or the checkpoint does not fit.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str | torch.device = 'cpu', deploy: bool = False) -> None:
        scope = cfg.get('default_scope')
        if scope not in TASKS:
            raise UsageError(f'expected a config with default_scope {" or ".join(TASKS)}, got {scope}')
        self.task = TASKS[scope]
        # Some hosts register their data sets and transforms only when these packages are imported.
        for package in ('models', 'datasets', 'visualization'):
            importlib.import_module(f'{scope}.{package}')
        init_default_scope(scope)
        self._dataset = _dataset_of(cfg)
        self.pipeline, self._to_float = _pipeline_of(cfg, self._dataset)
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu', logger='silent')
        model_cfg = cfg.model.copy()
        if cfg.get('data_preprocessor') is not None:
            model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
        self.model = MODELS.build(model_cfg)
        self._load(content, checkpoint)
        if deploy:
            switch_to_deploy(self.model)
        self.model.to(device).eval()
        meta = content.get('meta') if isinstance(content.get('meta'), dict) else {}
        # mmpretrain's older checkpoints, and those of other versions, write the names in capitals.
        trained = {str(key).lower(): value for key, value in (meta.get('dataset_meta') or {}).items()}
        known = trained if trained.get('classes') else _dataset_meta(self._dataset, scope)
        self.classes = tuple(str(name).strip() for name in known.get('classes') or ())
        self.palette = _palette(known.get('palette'), len(self.classes))

    def name_of(self, label: int) -> str:
        """Name of a class."""
        return self.classes[label] if label < len(self.classes) else f'class {label}'

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """Indices of classes given by name or index.

        Raises:
            UsageError: There is no such class.
        """
        # The first of several names of a class, as ImageNet has them, stands for it too.
        lower = {name.split(',')[0].strip().lower(): label for label, name in enumerate(self.classes)}
        lower |= {name.lower(): label for label, name in enumerate(self.classes)}
        labels = []
        for name in names:
            label = lower.get(name.strip().lower())
            if label is None and name.isdecimal() and int(name) < len(self.classes):
                label = int(name)
            if label is None:
                close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
                hint = f'did you mean {" or ".join(close)}?' if close else f'the first is {self.name_of(0)}'
                raise UsageError(f'--classes must name some of the {len(self.classes)} classes, got {name!r}; {hint}')
            labels.append(label)
        return labels

    def prepare(self, picture: Picture) -> dict[str, Any]:
        """Take a picture through the test pipeline of the config.

        Returns:
            What the pipeline packs: ``inputs`` and ``data_samples``.

        Raises:
            PictureError: The pipeline cannot handle it.
        """
        image = picture.image.astype('float32') if self._to_float else picture.image
        shape = image.shape[:2]
        results = dict(
            img=image, img_path=str(picture.path), img_id=0, img_shape=shape, ori_shape=shape,
            seg_map_path=None, seg_fields=[], reduce_zero_label=False,
        )  # fmt: skip
        try:
            return self.pipeline(results)
        except PICTURE_ERRORS as error:
            raise PictureError(
                f'{picture.path}: {shape[1]} x {shape[0]} pixels cannot go through the test pipeline of the config '
                f'({_first_line(error)})'
            ) from error

    @torch.no_grad()
    def predict(self, items: Sequence[dict[str, Any]]) -> list[Any]:
        """Predict prepared pictures with ``inputs`` of one size; a data sample of the host for each, on the CPU."""
        samples = self.model.test_step(pseudo_collate(list(items)))
        return [sample.cpu() for sample in samples]

    def _load(self, content: Any, checkpoint: str) -> None:
        weights = unwrap_state_dict(content, checkpoint)
        try:
            require_fit(self.model, weights, checkpoint)
        except UsageError as error:
            # A demo run has fewer classes than its config; what was run is written beside the checkpoint.
            written = sorted(Path(checkpoint).parent.glob('*.py')) if '://' not in checkpoint else []
            hint = f'; the config of its run may be {written[0]}' if written else ''
            raise UsageError(f'{error}{hint}') from error
        self.model.load_state_dict(weights, strict=False)


def _dataset_of(cfg: Config) -> dict:
    """Config of the innermost data set that is tested on."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    return dataset


def _pipeline_of(cfg: Config, dataset: dict) -> tuple[Compose, bool]:
    """The test pipeline behind the loading of the picture, without labels; does it want floating-point numbers?"""
    transforms = dataset.get('pipeline') or cfg.get('test_pipeline')
    if not transforms:
        raise UsageError('expected a config with test_dataloader.dataset.pipeline, found none; give a complete config')
    kinds = [str(transform['type']).rpartition('.')[2] for transform in transforms]
    loaders = [dict(one) for one, kind in zip(transforms, kinds, strict=True) if kind == 'LoadImageFromFile']
    others = [one for one, kind in zip(transforms, kinds, strict=True) if not kind.startswith('Load')]
    if len(loaders) != 1 or loaders[0].get('color_type', 'color') != 'color':
        raise UsageError(
            'expected a test pipeline with one LoadImageFromFile of colour pictures, got '
            f'{loaders or ", ".join(kinds)}; test with tools/test.py'
        )
    return Compose(others), bool(loaders[0].get('to_float32', False))


def _dataset_meta(dataset: dict, scope: str) -> dict:
    """Names and colours of the classes, from the config of a data set or its class."""
    kind = dataset.get('type')
    if isinstance(kind, str):
        kind = DATASETS.get(kind if '.' in kind else f'{scope}.{kind}')
    known = {key.lower(): value for key, value in (getattr(kind, 'METAINFO', None) or {}).items()}
    return known | {key.lower(): value for key, value in (dataset.get('metainfo') or {}).items()}


def _palette(colours: Any, number: int) -> list[tuple[int, int, int]] | None:
    if not isinstance(colours, (list, tuple)) or len(colours) < number or not number:
        return None
    return [tuple(int(value) for value in colour) for colour in colours[:number]]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0] or type(error).__name__

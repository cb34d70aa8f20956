"""The train form of a config with its checkpoint, and its fused copy."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmlk.checkpoints.fit import require_fit, some, unwrap_state_dict
from mmlk.errors import UsageError
from mmlk.models import switch_to_deploy
from mmlk.models.shrink import shrink_kernels


@dataclass(frozen=True)
class Source:
    """What is to be fused.

    Attributes:
        cfg: Config of the train form.
        model: The train form with its weights.
        meta: What the checkpoint says of itself, the classes among it.
        dtype: Dtype of the weights in the file.
    """

    cfg: Config
    model: nn.Module
    meta: dict
    dtype: torch.dtype


def build_model(cfg: Config) -> nn.Module:
    """The model of a config as MMEngine's runner builds it, but for what only training needs."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = copy.deepcopy(cfg.model)
    model.pop('train_cfg', None)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    with warnings.catch_warnings():
        # The hosts warn of their own deprecated functions.
        warnings.simplefilter('ignore')
        return MODELS.build(model)


def load_source(cfg: Config, checkpoint: str) -> Source:
    """Build the train form of a config and load a checkpoint that must fit and be sound.

    Raises:
        UsageError: It does not fit, is fused already, or its numbers cannot be those of a trained network.
    """
    if 'model' not in cfg:
        raise UsageError('expected a config with a model, found none; give the config the checkpoint was trained with')
    model = build_model(cfg)
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu', logger='silent')
    weights = unwrap_state_dict(content, checkpoint)
    if any('.reparam_convs.' in f'.{key}' for key in weights.keys() - model.state_dict().keys()):
        raise UsageError(
            f'{checkpoint} is fused already: give the checkpoint it was made from, or test it with its deploy config'
        )
    require_sound(weights, checkpoint)
    require_fit(model, weights, checkpoint)
    model.load_state_dict(weights, strict=False)
    meta = content.get('meta') if isinstance(content.get('meta'), Mapping) else {}
    floating = [value.dtype for value in weights.values() if value.is_floating_point()]
    return Source(cfg, model.float().eval(), dict(meta), max(set(floating), key=floating.count))


def require_sound(weights: Mapping[str, Tensor], source: str) -> None:
    """Raise unless all weights are finite and all variances are positive or 0.

    Raises:
        UsageError: They are not; the message names the first.
    """
    broken = [key for key, value in weights.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    negative = [key for key, value in weights.items() if key.endswith('running_var') and (value < 0).any()]
    for keys, what in ((broken, 'with NaN or infinity'), (negative, 'with negative variances')):
        if keys:
            raise UsageError(
                f'{source} has {len(keys)} tensors {what} ({some(keys)}): training has diverged or the file is '
                'damaged; give an earlier or a new copy'
            )


def fuse(model: nn.Module, form: str, deep: bool) -> nn.Module:
    """A fused copy of a model, in float64.

    Raises:
        UsageError: Nothing is there to be fused, or a part cannot be.
    """
    try:
        fused = switch_to_deploy(copy.deepcopy(model).double(), form, deep)
    except (TypeError, ValueError) as error:
        raise UsageError(f'the model cannot be fused with --form {form}: {error}') from error
    if _shapes(fused) != _shapes(model):
        return fused
    if deep:
        raise UsageError(
            'nothing to fuse: the model has neither train-time branches of mmlk nor a BatchNorm directly '
            'behind a convolution; it is as fast as it gets this way'
        )
    raise UsageError(
        f'nothing to fuse: {type(model).__name__} has no train-time branches of mmlk (backbone '
        f'{type(getattr(model, "backbone", model)).__name__}), or its config builds the fused form already; --deep '
        'folds the BatchNorms behind convolutions of any model'
    )


def shrink(fused: nn.Module, image: tuple[int, int]) -> nn.Module | None:
    """A copy of a fused model, float32, without the taps and channels that sparse training left at zero.

    Prints what was cut; ``None`` if nothing was.

    Args:
        fused: Fused model.
        image: (H, W) in pixels for which the cheapest convolutions are chosen.

    Raises:
        UsageError: The model has no mixers of mmlk.
    """
    shrunk = copy.deepcopy(fused).float()
    try:
        report = shrink_kernels(shrunk, image)
    except ValueError as error:
        raise UsageError(f'--shrink cannot be used: {error}') from error
    print(report)
    return shrunk if report.shrunk else None


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items()}

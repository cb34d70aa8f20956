"""Does a checkpoint fit a model? MMEngine loads what matches and goes on; here what does not match stops the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mmlk.checkpoints.official import OFFICIAL_FILES
from mmlk.compat.config_scope import ConfigNotFoundError, resolve
from mmlk.errors import UsageError

#: Keys under which training frameworks wrap the weights, in order of preference.
WRAPPERS = ('state_dict', 'model', 'module')

#: Parameters that downstream backbones have and ImageNet checkpoints do not: the norms of the outputs.
OUTPUT_NORM_PREFIXES = tuple(f'norm{stage}.' for stage in range(4))


def unwrap_state_dict(checkpoint: Mapping, source: str | os.PathLike = '') -> dict[str, Tensor]:
    """The weights of a checkpoint: the mapping itself, or what lies under one of :data:`WRAPPERS`.

    Args:
        checkpoint: What was loaded.
        source: Its file, for the message.

    Raises:
        UsageError: No weights are found.
    """
    for wrapper in WRAPPERS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
            break
    if isinstance(checkpoint, Mapping):
        weights = {key: value for key, value in checkpoint.items() if isinstance(value, Tensor)}
        if weights and all(isinstance(key, str) for key in weights):
            return weights
    file = f'{source} to be ' if source else ''
    raise UsageError(
        f'expected {file}a checkpoint with weights, plain or under one of {WRAPPERS}, got {_kind(checkpoint)}'
    )


def require_fit(model: nn.Module, weights: Mapping[str, Tensor], source: str, optional: tuple[str, ...] = ()) -> None:
    """Raise unless ``weights`` has exactly the keys and shapes of ``model``, and numbers that a model can have.

    PyTorch would drop the imaginary part of complex numbers and round whole numbers of any size without a word.

    Args:
        model: The model to be loaded.
        weights: State dict, keys as in the model.
        source: Where the weights come from, for the message.
        optional: Prefixes of keys that may be missing.

    Raises:
        UsageError: Something does not match; the message counts and names it.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in weights and not key.startswith(optional)]
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    unexpected = [key for key in weights if key not in own]
    shapes = [
        f'{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}'
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    kinds = [f'{key} {kind}' for key in own if key in weights and (kind := _foreign_kind(weights[key], own[key]))]
    infinite = [] if kinds else [key for key, _ in model.named_parameters() if _is_broken(weights.get(key))]
    found = {
        'keys missing': missing,
        'keys unexpected': unexpected,
        'of another shape': shapes,
        'of another type': kinds,
        'with NaN or infinity': infinite,
    }
    problems = [f'{len(keys)} {what} ({some(keys)})' for what, keys in found.items() if keys]
    if problems:
        raise UsageError(
            f'{source} does not fit {type(model).__name__}: {", ".join(problems)}; give one of this very network'
        )


def _foreign_kind(tensor: Tensor, own: Tensor) -> str:
    """What a tensor is that cannot become a weight of the model; ``''`` where it can."""
    if tensor.is_quantized or tensor.layout != torch.strided:
        return 'quantised' if tensor.is_quantized else str(tensor.layout)
    if tensor.is_meta and not own.is_meta:
        return 'without its values'
    if own.is_floating_point() and not tensor.is_floating_point():
        return str(tensor.dtype)
    return ''


def _is_broken(tensor: Tensor | None) -> bool:
    return tensor is not None and not tensor.is_meta and not bool(tensor.isfinite().all())


def load_backbone_weights(
    backbone: nn.Module, checkpoint: str, prefix: str | None = None, map_location: str = 'cpu'
) -> None:
    """Load a backbone from a checkpoint of a classifier, a segmentor, a detector or a bare backbone.

    Args:
        backbone: The backbone to fill.
        checkpoint: Path or URL of the file.
        prefix: Prefix of the backbone's keys; ``None`` takes ``'backbone.'`` where the file has such keys.
        map_location: Device to read to.

    Raises:
        UsageError: The file is not there or does not fit.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    if '://' not in checkpoint and not os.path.isfile(os.path.expanduser(checkpoint)):
        raise UsageError(missing_weights_message(checkpoint))
    weights = unwrap_state_dict(
        CheckpointLoader.load_checkpoint(checkpoint, map_location, logger='current'), checkpoint
    )
    prefix = 'backbone.' if prefix is None else prefix.rstrip('.') + '.'
    prefixed = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    weights = prefixed or weights
    # A classifier's final norm has no place in a downstream backbone.
    weights = {key: value for key, value in weights.items() if not key.startswith('norm.') or hasattr(backbone, 'norm')}
    require_fit(backbone, weights, checkpoint, optional=OUTPUT_NORM_PREFIXES)
    backbone.load_state_dict(weights, strict=False)


def missing_weights_message(checkpoint: str) -> str:
    """One sentence for pretrained weights that are not there: where they come from, how to do without.

    Names the authors' file and the command that converts it, and the config that trains the weights, where there are
    such.
    """
    name = Path(checkpoint).stem
    config = f'imagenet/{name}.py'
    ways = []
    if name in OFFICIAL_FILES:
        ways.append(OFFICIAL_FILES[name].instruction(checkpoint))
    try:
        resolve(f'mmlk::{config}')
        ways.append(f'train them with configs/{config} and put them there')
    except ConfigNotFoundError:
        pass
    ways.append('start from random weights with --cfg-options model.backbone.init_cfg=None')
    return f'pretrained weights expected at {checkpoint}, found no such file: {", or ".join(ways)}'


def some(items: list[str], limit: int = 3) -> str:
    """The first few items, and how many more there are."""
    more = f', and {len(items) - limit} more' if len(items) > limit else ''
    return ', '.join(items[:limit]) + more


def _kind(checkpoint: object) -> str:
    if isinstance(checkpoint, Mapping):
        return f'a mapping with the keys {list(checkpoint)[:5]}'
    return type(checkpoint).__name__

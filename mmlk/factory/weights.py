"""Loading weights into a model made by name: every tensor of the file is used or left out for a stated reason."""

from __future__ import annotations

import os
from collections.abc import Mapping

from timm.models import adapt_input_conv
from torch import Tensor, nn

from mmlk.checkpoints.convert import HEADS, convert, describe
from mmlk.checkpoints.families import FAMILIES
from mmlk.checkpoints.fit import OUTPUT_NORM_PREFIXES, require_fit, unwrap_state_dict
from mmlk.checkpoints.official import OFFICIAL_FILES
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.errors import UsageError
from mmlk.factory.names import MODELS

BACKBONE = 'backbone.'
CLASSIFIER = 'head.fc.'


def read_weights(source: str | os.PathLike, name: str, given: Mapping[str, object]) -> dict[str, Tensor]:
    """The weights of a file under our names, ``backbone.*`` and ``head.fc.*``; heads of other tasks are left out.

    Args:
        source: File of this project, of a host, or of the network's authors.
        name: Name of the model.
        given: Arguments of its backbone.

    Raises:
        UsageError: There is no such file, it holds no weights, a tensor cannot be explained, or the network is another.
    """
    path = os.path.expanduser(os.fspath(source))
    if '://' in path:
        raise UsageError(f'pretrained must be a file on this machine, got {path}; download it first')
    if not os.path.isfile(path):
        ways = [OFFICIAL_FILES[name].instruction(path)] if name in OFFICIAL_FILES else []
        ways.append('leave out pretrained for random weights')
        raise UsageError(f'pretrained must be a file, found none at {path}: {", or ".join(ways)}')
    backbone, arch = MODELS[name]
    checkpoint = load_checkpoint_file(path, map_location='cpu')
    weights = unwrap_state_dict(checkpoint, path)
    family = _authors_family(weights, backbone)
    if family is not None:
        conversion = convert(checkpoint, family, arch, source=path)
        _require_network(conversion.network, given, path)
        weights = conversion.weights
    weights = {key: value for key, value in weights.items() if not key.startswith(HEADS)}
    if not any(key.startswith(BACKBONE) for key in weights):
        weights = {key if key.startswith('head.') else BACKBONE + key: value for key, value in weights.items()}
    return weights


def _authors_family(weights: Mapping[str, Tensor], backbone: str) -> str | None:
    """The family of files whose names explain most of the weights, ``None`` where ours explain as many."""
    best, most = None, 0
    for family in FAMILIES.values():
        if family.backbone != backbone:
            continue
        for key_map in family.key_maps:
            bare = [key.removeprefix(BACKBONE) for key in weights]
            theirs = sum(key_map.to_ours(key) is not None for key in weights)
            theirs = max(theirs, sum(key_map.to_ours(key) is not None for key in bare))
            ours = sum(key_map.to_theirs(key) is not None for key in bare)
            if theirs > ours and theirs > most:
                best, most = family.name, theirs
    return best


def fused_form(weights: Mapping[str, Tensor]) -> str | None:
    """``'dense'`` or ``'strips'`` where these are the weights of a fused network, else ``None``."""
    if not any('.reparam_convs.' in key for key in weights):
        return None
    return 'strips' if any('.reparam_convs.1.' in key for key in weights) else 'dense'


def load_classifier(model: nn.Module, weights: dict[str, Tensor], source: str, num_classes: int) -> None:
    """Load backbone and linear layer.

    Raises:
        UsageError: Something does not match.
    """
    classes = weights[f'{CLASSIFIER}weight'].shape[0] if f'{CLASSIFIER}weight' in weights else None
    if num_classes == 0:
        weights = {key: value for key, value in weights.items() if not key.startswith(CLASSIFIER)}
    elif classes is None:
        raise UsageError(
            f'{source} has no classifier: give features_only=True for the maps of the stages, or num_classes=0'
        )
    elif classes != num_classes:
        raise UsageError(
            f'{source} has {classes} classes, not {num_classes}: give num_classes={classes}, or num_classes=0 and then '
            f'reset_classifier({num_classes}) for a new linear layer'
        )
    # Norms of outputs are those of a downstream model, of which a classifier has none.
    weights = {key: value for key, value in weights.items() if not key.startswith(_OUTPUT_NORMS)}
    _load(model, weights, source)


def load_features(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load a backbone; a classifier's norm and linear layer have no place in it, and norms of outputs may be missing.

    Raises:
        UsageError: Something does not match.
    """
    own = model.state_dict()
    weights = {
        key: value
        for key, value in weights.items()
        if not key.startswith((CLASSIFIER, f'{BACKBONE}norm.'))
        and (key in own or not key.startswith(_OUTPUT_NORMS))
    }  # fmt: skip
    _load(model, weights, source, optional=_OUTPUT_NORMS)


_OUTPUT_NORMS = tuple(BACKBONE + prefix for prefix in OUTPUT_NORM_PREFIXES)


def _load(model: nn.Module, weights: dict[str, Tensor], source: str, optional: tuple[str, ...] = ()) -> None:
    own = model.state_dict()
    # The first convolution, which is the one that sees the picture.
    first = next(key for key, value in own.items() if value.dim() == 4)
    if first in weights and weights[first].dim() == 4 and weights[first].shape[1] == 3 != own[first].shape[1]:
        weights[first] = adapt_input_conv(own[first].shape[1], weights[first])
    require_fit(model, weights, source, optional)
    model.load_state_dict(weights, strict=False)


def _require_network(network: Mapping[str, object], given: Mapping[str, object], source: str) -> None:
    """Raise unless a converted file is of the network that was asked for; a fused form is dealt with elsewhere."""
    others = {key: value for key, value in network.items() if key not in ('type', 'arch', 'deploy')}
    wrong = {key: value for key, value in others.items() if key not in given or given[key] != value}
    if wrong:
        arguments = ', '.join(f'{key}={value!r}' for key, value in wrong.items())
        raise UsageError(f'{source} is {describe(network)}: give {arguments} as well')

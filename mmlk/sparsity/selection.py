"""Which parameters of a model are made sparse."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from mmlk.errors import UsageError

SCOPES = ('all', 'large_kernels')

#: Embeddings of positions are no weights of a layer, even where they have two or four axes.
EXCLUDED = (r'pos(ition)?_?embed', r'relative_position')


def select_parameters(
    model: nn.Module, scope: str = 'all', exclude: Sequence[str] = EXCLUDED
) -> dict[str, nn.Parameter]:
    """Parameters to make sparse, by their names in the model; frozen ones are left out.

    Args:
        model: A bare network, or a model with a part called ``backbone``, such as those of mmpretrain, mmseg and mmdet.
        scope: ``'all'``: weights with two or four axes of the backbone and of a classification head (linear layers of
            the part called ``head``), as SLaK, PeLK and SW count them; never necks, decode heads or box heads. Norms
            and layer scales are left out whatever their shape: a weight with one axis longer than 1 is a vector.
            ``'large_kernels'``: the large kernels of the mixers, before fusion. Anything else: a regular expression
            that is searched for in the names of all weights with two or four axes.
        exclude: Regular expressions; a parameter in whose name one is found is left out.

    Raises:
        UsageError: Nothing is selected.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8))
        >>> list(select_parameters(model))
        ['0.weight']
    """
    weights = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and _is_weight(p) and not any(re.search(pattern, name) for pattern in exclude)
    }
    if scope == 'all':
        linear = {f'{name}.weight' for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        bare = not isinstance(getattr(model, 'backbone', None), nn.Module)
        chosen = {
            name
            for name in weights
            if bare or name.startswith('backbone.') or (name.startswith('head.') and name in linear)
        }
    elif scope == 'large_kernels':
        chosen = {name for _, names in _large_kernels(model) for name in names}
    else:
        try:
            chosen = {name for name in weights if re.search(scope, name)}
        except re.error as error:
            raise UsageError(
                f'scope must be one of {SCOPES} or a regular expression for parameter names, got {scope!r}: {error}.'
            ) from error
    selected = {name: weight for name, weight in weights.items() if name in chosen}
    if not selected:
        raise UsageError(
            f'scope={scope!r} with exclude={tuple(exclude)} matches no trainable weight with two or four axes of '
            f'{type(model).__name__}: give one of {SCOPES} or a regular expression for names such as '
            f'{next(iter(weights), "(none)")!r}.'
        )
    return selected


def find_path_groups(model: nn.Module, parameters: Sequence[str]) -> list[tuple[str, ...]]:
    """Names of weights that a mixer adds up, as the paths of SW, among ``parameters``; groups of one are left out."""
    known = set(parameters)
    groups = [tuple(name for name in names if name in known) for _, names in _large_kernels(model)]
    return [group for group in groups if len(group) > 1]


def _large_kernels(model: nn.Module) -> list[tuple[str, list[str]]]:
    """Large kernels of all mixers: the name of the attribute, and of the parameters whose sum it stands for.

    A mixer says which of its attributes they are: ``large_kernel_weights`` names a parameter or an
    ``nn.ParameterList``, whose members are added up.
    """
    found = []
    for prefix, module in model.named_modules():
        for attribute in getattr(module, 'large_kernel_weights', ()):
            name = f'{prefix}.{attribute}' if prefix else attribute
            value = getattr(module, attribute, None)
            if isinstance(value, nn.ParameterList):
                found.append((name, [f'{name}.{i}' for i in range(len(value))]))
            elif isinstance(value, nn.Parameter):
                found.append((name, [name]))
    return found


def _is_weight(parameter: nn.Parameter) -> bool:
    return parameter.dim() in (2, 4) and parameter.numel() > max(parameter.shape)

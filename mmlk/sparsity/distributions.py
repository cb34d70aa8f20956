"""How the active weights are shared out between the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmlk.errors import UsageError
from mmlk.sparsity.ranking import kth_smallest, sortable_keys


def check_sparsity(sparsity: float) -> None:
    """Refuse a sparsity outside [0, 1).

    Raises:
        UsageError: One sentence.
    """
    if not 0 <= sparsity < 1:
        raise UsageError(f'sparsity must be in [0, 1), the share of weights at zero, got {sparsity}.')


def uniform(shapes: Mapping[str, Sequence[int]], sparsity: float) -> dict[str, float]:
    """The same density in every layer.

    Args:
        shapes: Names and shapes of the weights.
        sparsity: Share of the weights at zero, in [0, 1).

    Returns:
        Density of each layer, in [0, 1].
    """
    check_sparsity(sparsity)
    return dict.fromkeys(shapes, 1 - sparsity)


def erk(shapes: Mapping[str, Sequence[int]], sparsity: float) -> dict[str, float]:
    """Erdos-Renyi-Kernel densities (arXiv 1911.11134, section 3): the smaller a layer, the denser.

    Equation: density = min(1, eps * sum(shape) / prod(shape)), eps such that the total is right. Layers that would
    exceed 1 are dense, and the others share what is left.

    Args:
        shapes: Names and shapes of the weights.
        sparsity: Share of the weights at zero, in [0, 1).

    Returns:
        Density of each layer, in [0, 1].

    Example:
        >>> erk({'small': (2, 2), 'large': (8, 8)}, sparsity=0.5)
        {'small': 1.0, 'large': 0.46875}
    """
    check_sparsity(sparsity)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / max(sizes[name], 1) for name, shape in shapes.items()}
    return _share_out((1 - sparsity) * sum(sizes.values()), sizes, raw, full_from=1.0)


def from_scores(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
    """Densities such that each layer keeps its share of the best scores of all layers (SNIP, arXiv 1810.02340).

    Only the share is used: which weights of a layer are active is drawn at random afterwards, as SLaK's authors do.

    Args:
        scores: Names and scores. Compared in float32.
        sparsity: Share of the entries at zero, in [0, 1).

    Returns:
        Density of each layer. Scores equal to the threshold are shared out in proportion, so the total is exact; all
        scores equal gives the uniform distribution.

    Raises:
        UsageError: A score is NaN or infinite.

    Example:
        >>> from_scores({'a': torch.tensor([4.0, 3.0]), 'b': torch.tensor([2.0, 1.0])}, sparsity=0.25)
        {'a': 1.0, 'b': 0.5}
    """
    check_sparsity(sparsity)
    keys = {name: _finite_keys(name, value) for name, value in scores.items()}
    sizes = {name: len(value) for name, value in keys.items()}
    drop = sum(sizes.values()) - round((1 - sparsity) * sum(sizes.values()))
    if drop == sum(sizes.values()):
        return dict.fromkeys(scores, 0.0)
    # The smallest score that stays.
    threshold = kth_smallest(list(keys.values()), drop + 1)
    below = {name: int((value < threshold).sum()) for name, value in keys.items()}
    ties = {name: int((value == threshold).sum()) for name, value in keys.items()}
    share = (drop - sum(below.values())) / sum(ties.values())
    return {name: 1 - (below[name] + share * ties[name]) / max(sizes[name], 1) for name in scores}


def fill_dense(densities: Mapping[str, float], sizes: Mapping[str, int], dense_above: float) -> dict[str, float]:
    """Make layers of at least ``dense_above`` fully dense and take what they gain from the others, in proportion.

    Args:
        densities: Density of each layer.
        sizes: Number of weights of each layer.
        dense_above: From here on a mask is not worth its while.

    Returns:
        Densities with the same total.
    """
    total = sum(densities[name] * sizes[name] for name in densities)
    return _share_out(total, dict(sizes), dict(densities), full_from=dense_above)


def _share_out(total: float, sizes: dict[str, int], raw: dict[str, float], full_from: float) -> dict[str, float]:
    """Densities eps * raw, those from ``full_from`` on raised to 1, with ``total`` active weights in all."""
    full: set[str] = set()
    while True:
        others = sum(raw[name] * sizes[name] for name in sizes if name not in full)
        left = total - sum(sizes[name] for name in full)
        scale = max(left, 0) / others if others else 0.0
        densities = {name: 1.0 if name in full else scale * raw[name] for name in sizes}
        over = {name for name in sizes if name not in full and densities[name] >= full_from}
        if not over:
            return densities
        full |= over


def _finite_keys(name: str, scores: Tensor) -> Tensor:
    if not torch.isfinite(scores).all():
        raise UsageError(
            f'The scores of {name} must be finite, got NaN or infinity: start from a uniform or ERK distribution, or '
            'look for the cause in the first batch and the learning rate.'
        )
    return sortable_keys(scores)

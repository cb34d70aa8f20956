"""Drawing, pruning and growing masks: pure functions on bool tensors, True for active.

Random numbers come from a generator of the CPU, whatever the device of the mask, so that every device and every process
draws the same. Scores are compared in float32, ties broken by index.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmlk.sparsity.ranking import smallest, sortable_keys


def generator_for(seed: int, layer_name: str, update_index: int) -> torch.Generator:
    """Generator of the CPU that depends on nothing but its three arguments.

    Args:
        seed: Seed of the training.
        layer_name: Name of the parameter.
        update_index: 0 for the first mask, n for the n-th update.
    """
    digest = hashlib.sha256(f'{seed}/{update_index}/{layer_name}'.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], 'little') >> 1)


def random_mask(shape: Sequence[int], density: float, generator: torch.Generator, exact: bool = True) -> Tensor:
    """Draw a mask of the given density.

    Args:
        shape: Shape of the mask.
        density: Share of active entries in [0, 1].
        generator: Generator of the CPU.
        exact: Exactly round(density * n) active entries, and at least one where the density is positive; otherwise
            every entry is drawn by itself, as SLaK's authors do.

    Returns:
        Bool tensor on the CPU.
    """
    shape = tuple(shape)
    if not exact:
        return torch.rand(shape, generator=generator) < density
    size = math.prod(shape)
    count = min(size, max(round(density * size), int(density > 0)))
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.randperm(size, generator=generator)[:count]] = True
    return mask.view(shape)


def prune(mask: Tensor, scores: Tensor, count: int) -> Tensor:
    """Switch off the ``count`` active entries with the smallest scores.

    Args:
        mask: Active entries.
        scores: Scores of the mask's shape; NaN counts as largest.
        count: Entries to prune; all, where fewer are active.
    """
    active = mask.flatten().nonzero().squeeze(1)
    return _with(mask, active[smallest(sortable_keys(scores.flatten()[active]), count)], False)


def grow_random(mask: Tensor, count: int, generator: torch.Generator, exact: bool = True) -> Tensor:
    """Switch on ``count`` inactive entries, each as likely as any other.

    Args:
        mask: Active entries.
        count: Entries to grow; all, where fewer are inactive.
        generator: Generator of the CPU.
        exact: Exactly ``count``; otherwise every inactive entry is drawn by itself with probability count / inactive,
            so that the count is right on average, as SLaK's authors do.
    """
    inactive = mask.logical_not().flatten().nonzero().squeeze(1)
    size = len(inactive)
    if exact:
        drawn = torch.randperm(size, generator=generator)[:count]
    else:
        drawn = (torch.rand(size, generator=generator) < count / max(size, 1)).nonzero().squeeze(1)
    return _with(mask, inactive[drawn.to(mask.device)], True)


def grow_by_score(mask: Tensor, scores: Tensor, count: int) -> Tensor:
    """Switch on the ``count`` inactive entries with the largest scores.

    Args:
        mask: Active entries.
        scores: Scores of the mask's shape; NaN counts as smallest.
        count: Entries to grow; all, where fewer are inactive.
    """
    inactive = mask.logical_not().flatten().nonzero().squeeze(1)
    return _with(mask, inactive[smallest(sortable_keys(-scores.flatten()[inactive]), count)], True)


def _with(mask: Tensor, indices: Tensor, value: bool) -> Tensor:
    """A copy of the mask with the entries at flat ``indices`` set to ``value``."""
    changed = mask.flatten().clone()
    changed[indices] = value
    return changed.view(mask.shape)

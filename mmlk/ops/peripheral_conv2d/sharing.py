"""Kernels that share parameters: k' x k' parameters spread over K x K taps by a sharing grid."""

from __future__ import annotations

import torch
from torch import Tensor

Grid = tuple[int, ...]


def expand_kernel(weight: Tensor, grid: Grid) -> Tensor:
    """The K x K kernel (C, 1, K, K): row and column a of ``weight`` (C, 1, k', k') repeated ``grid[a]`` times."""
    return _spread(_spread(weight, grid, 2), grid, 3)


def collapse_gradient(grad: Tensor, grid: Grid) -> Tensor:
    """Gradient (C, 1, k', k') of the parameters from that of the taps (C, 1, K, K): the sum over each group."""
    rows = torch.stack([part.sum(2) for part in grad.split(grid, 2)], 2)
    return torch.stack([part.sum(3) for part in rows.split(grid, 3)], 3)


def crop_grid(grid: Grid, unused: int) -> Grid:
    """The grid without the ``unused`` outermost taps of each end; groups may become empty."""
    groups = list(grid)
    for order in (range(len(groups)), reversed(range(len(groups)))):
        left = unused
        for a in order:
            cut = min(left, groups[a])
            groups[a] -= cut
            left -= cut
    return tuple(groups)


def _spread(weight: Tensor, grid: Grid, dim: int) -> Tensor:
    # Slices and one concatenation instead of an index: autograd's gradient is a plain sum per group, so it is
    # deterministic on every device, and no index has to survive a build on the meta device.
    shape = list(weight.shape)
    parts = []
    for part, repeats in zip(weight.split(1, dim), grid, strict=True):
        shape[dim] = repeats
        parts.append(part.expand(shape))
    return torch.cat(parts, dim)

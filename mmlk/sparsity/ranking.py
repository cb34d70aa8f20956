"""The k smallest of many numbers without sorting them: the same on every device, ties by index."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BINS = 1 << 16


def sortable_keys(scores: Tensor) -> Tensor:
    """Flat int32 keys in the order of the scores as float32; NaN has the largest.

    The bit patterns of floats are in the order of their values, those of negative ones in the reverse order.
    """
    # Adding zero turns -0 into 0.
    bits = (scores.detach().to(torch.float32).flatten() + 0.0).view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).masked_fill_(scores.isnan().flatten(), 0x7FFFFFFF)


def kth_smallest(keys: Sequence[Tensor], k: int) -> int:
    """The k-th smallest key of all tensors together, k from 1, from histograms of its upper and its lower 16 bits."""
    upper, before = _first_bin([(key >> 16) + _BINS // 2 for key in keys], k)
    shifted = upper - _BINS // 2
    lower, _ = _first_bin([key[(key >> 16) == shifted] & (_BINS - 1) for key in keys], k - before)
    return (shifted << 16) | lower


def smallest(keys: Tensor, k: int) -> Tensor:
    """Indices of the k smallest keys in ascending order of index; of equal keys, those with the smallest index."""
    if k >= len(keys):
        return torch.arange(len(keys), device=keys.device)
    if k < 1:
        return torch.arange(0, device=keys.device)
    threshold = kth_smallest([keys], k)
    chosen = keys < threshold
    ties = (keys == threshold).nonzero().squeeze(1)
    chosen[ties[: k - int(chosen.sum())]] = True
    return chosen.nonzero().squeeze(1)


def _first_bin(values: Sequence[Tensor], k: int) -> tuple[int, int]:
    """The bin in which the k-th smallest value lies, and how many values are in the bins before."""
    histogram = sum(torch.bincount(value, minlength=_BINS).cpu() for value in values)
    counts = histogram.cumsum(0)
    found = int((counts < k).sum())
    return found, int(counts[found - 1]) if found else 0

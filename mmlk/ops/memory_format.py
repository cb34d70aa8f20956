"""The memory format of the ops' outputs: that of the input where it is one of PyTorch's two, contiguous otherwise."""

from __future__ import annotations

import torch
from torch import Tensor


def output_format(x: Tensor) -> torch.memory_format:
    """``channels_last`` if ``x`` (N, C, H, W) is laid out so and not contiguous as well, else ``contiguous_format``."""
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def empty_output(x: Tensor) -> Tensor:
    """Uninitialised tensor for an output of the shape and dtype of ``x``."""
    return torch.empty_like(x, memory_format=output_format(x))

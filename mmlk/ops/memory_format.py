"""The memory format of the ops' outputs: channels_last where the input is laid out so, contiguous otherwise."""

from __future__ import annotations

import torch
from torch import Tensor


def output_format(x: Tensor) -> torch.memory_format:
    """``channels_last`` if ``x`` (N, C, H, W) is laid out so, dense or a slice of a larger map, else contiguous.

    The rule of PyTorch's own convolution; a tensor that is contiguous in both ways counts as contiguous.
    """
    if x.is_contiguous() or not x.numel():
        return torch.contiguous_format
    extent = 0
    for dim in (1, 3, 2, 0):
        if x.stride(dim) < extent or x.stride(dim) == 0:
            return torch.contiguous_format
        extent = x.stride(dim) * x.shape[dim]
    return torch.channels_last


def empty_output(x: Tensor) -> Tensor:
    """Uninitialised tensor for an output of the shape and dtype of ``x``."""
    return torch.empty_like(x, memory_format=output_format(x))


def plain_kernel(weight: Tensor) -> Tensor:
    """The kernels (C, 1, R, S) with contiguous strides.

    They have both memory formats at once; with the strides of channels_last, as ``model.to(memory_format=...)`` leaves
    them, they would switch F.conv2d to that layout.
    """
    if weight.stride(1) == weight.shape[2] * weight.shape[3] and weight.is_contiguous():
        return weight
    return weight[:, 0].contiguous()[:, None]


def as_output(y: Tensor, x: Tensor) -> Tensor:
    """``y`` in the memory format of an output for ``x``; copied only where it has another."""
    return y.contiguous(memory_format=output_format(x))

"""Argument checks shared by the ops. One sentence per mistake: what was expected and what arrived."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check the arguments of a depthwise convolution with stride 1 and "same" zero padding.

    Raises:
        TypeError: Something is not a floating-point tensor, or dtypes differ.
        ValueError: A shape or a device does not fit, or R or S is even.
    """
    tensors = {'x': x, 'weight': weight} | ({} if bias is None else {'bias': bias})
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(tensor).__name__}')
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOAT_DTYPES:
            raise TypeError(f'{name} must be float16, bfloat16, float32 or float64, got {tensor.dtype}')
        if tensor.dtype != x.dtype:
            raise TypeError(f'{name} must have the dtype of x ({x.dtype}), got {tensor.dtype}')
        if tensor.device != x.device:
            raise ValueError(f'{name} must be on the device of x ({x.device}), got {tensor.device}')
    if x.dim() != 4:
        raise ValueError(f'x must have shape (N, C, H, W), got {tuple(x.shape)}')
    if x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(f'x must be at least 1 x 1 pixels, got shape {tuple(x.shape)}')
    if weight.dim() != 4 or weight.shape[1] != 1:
        raise ValueError(f'weight must have shape (C, 1, R, S), one kernel per channel, got {tuple(weight.shape)}')
    if weight.shape[0] != x.shape[1]:
        raise ValueError(f'weight must have one kernel per channel of x ({x.shape[1]}), got {weight.shape[0]} kernels')
    check_odd('the kernel of weight', tuple(weight.shape[2:]))
    if bias is not None and bias.shape != (x.shape[1],):
        raise ValueError(f'bias must have shape ({x.shape[1]},), got {tuple(bias.shape)}')


def check_peripheral_conv2d(
    x: Tensor, weight: Tensor, sharing_grid: Sequence[int], bias: Tensor | None
) -> tuple[int, ...]:
    """Check the arguments of a convolution whose kernel shares parameters; return the grid as a tuple.

    Raises:
        TypeError: As of :func:`check_depthwise_conv2d`.
        ValueError: The grid does not fit, or as of :func:`check_depthwise_conv2d`.
    """
    grid = tuple(sharing_grid)
    if not grid or any(not isinstance(group, int) or group < 1 for group in grid):
        raise ValueError(f'sharing_grid must hold positive integers, got {grid}')
    if not isinstance(weight, Tensor):
        raise TypeError(f'weight must be a torch.Tensor, got {type(weight).__name__}')
    if weight.dim() != 4 or tuple(weight.shape[1:]) != (1, len(grid), len(grid)):
        raise ValueError(
            f'weight must have shape (C, 1, {len(grid)}, {len(grid)}), an edge per group of sharing_grid {grid}, got '
            f'{tuple(weight.shape)}'
        )
    check_odd('the kernel of sharing_grid', (sum(grid),))
    # The edges of the parameters may be even, those of the kernel may not.
    check_depthwise_conv2d(x, weight[..., :1, :1], bias)
    return grid


def check_odd(name: str, kernel_size: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless every edge is a positive odd number (only those have a centre tap)."""
    if any(edge < 1 or edge % 2 == 0 for edge in kernel_size):
        text = ' x '.join(map(str, kernel_size))
        raise ValueError(f'{name} must have positive odd edges, so that output and input have one size, got {text}')

"""The definition: expand the kernel and convolve, on the backends of :func:`mmlk.ops.depthwise_conv2d`."""

from __future__ import annotations

from torch import Tensor

from mmlk.ops.depthwise_conv2d.backends import dispatcher
from mmlk.ops.peripheral_conv2d.sharing import Grid, collapse_gradient, expand_kernel


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, grid: Grid) -> Tensor:
    """Correlation with the expanded kernel."""
    kernel = expand_kernel(weight, grid)
    return dispatcher.run('forward', (x, kernel, bias), x, kernel, None)


def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor, grid: Grid) -> Tensor:
    """Gradient (N, C, H, W) of the input."""
    kernel = expand_kernel(weight, grid)
    return dispatcher.run('grad_input', (grad_output, x, kernel), x, kernel, None)


def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor, grid: Grid) -> Tensor:
    """Gradient (C, 1, k', k') of the parameters."""
    kernel = expand_kernel(weight, grid)
    return collapse_gradient(dispatcher.run('grad_weight', (grad_output, x, kernel), x, kernel, None), grid)


def backward(grad_output: Tensor, x: Tensor, weight: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Both gradients."""
    grad_x, grad_kernel = dispatcher.run_backward(grad_output, x, expand_kernel(weight, grid), None)
    return grad_x, collapse_gradient(grad_kernel, grid)


def why_not(x: Tensor, weight: Tensor, grid: Grid) -> str | None:
    """The expanded kernel can always be convolved with."""
    return None

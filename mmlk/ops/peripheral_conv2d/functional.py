"""The user's function and the explanation of its dispatch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmlk.ops.checks import check_backend, check_peripheral_conv2d
from mmlk.ops.depthwise_conv2d.functional import depthwise_conv2d, resolve_backend
from mmlk.ops.dispatch import Choice
from mmlk.ops.library import Operators, cast_for_autocast
from mmlk.ops.peripheral_conv2d.backends import dispatcher
from mmlk.ops.peripheral_conv2d.sharing import expand_kernel

operators = Operators(dispatcher, ', int[] sharing_grid')


def peripheral_conv2d(
    x: Tensor,
    weight: Tensor,
    sharing_grid: Sequence[int],
    bias: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Depthwise convolution with a K x K kernel that shares k' x k' parameters (PeLK, arXiv 2403.07589, Eq. 1).

    Equation: ``depthwise_conv2d(x, kernel, bias)`` with kernel[c,0,r,s] = weight[c,0,a,b] for tap r in the a-th and s
    in the b-th group of the grid.

    Args:
        x: Feature map (N, C, H, W), any strides, float16/bfloat16/float32/float64. N may be 0.
        weight: Parameters (C, 1, k', k'), same dtype and device as ``x``.
        sharing_grid: Taps of each of the k' groups along an axis; they add up to K, odd.
        bias: Offsets (C,).
        backend: ``'shared/cpu'`` or ``'shared/triton'`` use the sharing structure, ``'dense'`` expands the kernel;
            a backend of :func:`mmlk.ops.depthwise_conv2d` expands it and runs there. ``None`` takes, per pass, the
            fastest by prediction among those that can run, and the reference under ``torch.func`` and for forward-mode
            derivatives.

    Returns:
        Tensor (N, C, H, W), dtype and memory format as of :func:`mmlk.ops.depthwise_conv2d`.

    Raises:
        TypeError: An argument is no dense floating-point tensor, ``sharing_grid`` is no tuple or list, or dtypes differ
            outside autocast.
        ValueError: The grid does not fit ``weight`` or adds up to an even number, shapes or devices do not fit, or
            ``backend`` is unknown.
        RuntimeError: ``backend`` was forced and cannot run; the message says why.

    Example:
        >>> import torch
        >>> y = peripheral_conv2d(torch.ones(1, 2, 9, 9), torch.ones(2, 1, 3, 3), (2, 1, 2))
        >>> y[0, 0, 4, 4].item()
        25.0
    """
    x, weight, bias = cast_for_autocast(x, weight, bias)
    grid = check_peripheral_conv2d(x, weight, sharing_grid, bias)
    backend = resolve_backend(backend, dispatcher.names())
    if backend is not None and backend not in dispatcher.names():
        return depthwise_conv2d(x, expand_kernel(weight, grid), bias, backend=backend)
    return operators.forward(x, weight, bias, backend, grid)


def explain(x: Tensor, weight: Tensor, sharing_grid: Sequence[int], *, backend: str | None = None) -> dict[str, Choice]:
    """As :func:`mmlk.ops.explain`; ``backend`` is one of this op's own."""
    x, weight, _ = cast_for_autocast(x, weight, None)
    check_backend('backend', backend, dispatcher.names())
    return dispatcher.explain(x, weight, backend, (check_peripheral_conv2d(x, weight, sharing_grid, None),))

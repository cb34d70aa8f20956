"""Calls of the ops drawn at random, and whether what came out is right."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from hostile.campaign import Wrong
from numerics import TOLERANCE
from torch import Tensor

from mmlk.ops import depthwise_conv2d, peripheral_conv2d

BACKENDS = (None, None, 'reference', 'cpu', 'cpu/fft', 'cpu/contiguous', 'cpu/channels_last')
PERIPHERAL_BACKENDS = (*BACKENDS, 'dense', 'shared/cpu')
DTYPES = tuple(TOLERANCE)


@dataclass(frozen=True)
class Call:
    """Arguments of ``depthwise_conv2d``, or with a grid of ``peripheral_conv2d``; they may be of any type."""

    x: Any
    weight: Any
    bias: Any = None
    backend: Any = None
    sharing_grid: Any = None
    peripheral: bool = False

    def __call__(self) -> Tensor:
        if self.peripheral:
            return peripheral_conv2d(self.x, self.weight, self.sharing_grid, self.bias, backend=self.backend)
        return depthwise_conv2d(self.x, self.weight, self.bias, backend=self.backend)

    @property
    def names(self) -> tuple[str, ...]:
        """Its arguments, of which a sentence has to name one."""
        return ('x', 'weight', 'bias', 'backend', *(('sharing_grid',) if self.peripheral else ()))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in (self.x, self.weight, self.bias) if tensor is not None)

    def changed(self, **arguments: Any) -> Call:
        return replace(self, **arguments)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Call:
        """With a function applied to every tensor."""
        bias = None if self.bias is None else function(self.bias)
        return replace(self, x=function(self.x), weight=function(self.weight), bias=bias)

    def __str__(self) -> str:
        name = 'peripheral_conv2d' if self.peripheral else 'depthwise_conv2d'
        grid = f', sharing_grid={shown(self.sharing_grid)}' if self.peripheral else ''
        values = ', '.join(f'{key}={shown(getattr(self, key))}' for key in ('x', 'weight', 'bias', 'backend'))
        return f'{name}({values}{grid})'


def shown(value: Any) -> str:
    """A short description of an argument."""
    if not isinstance(value, Tensor):
        text = repr(value)
        return text if len(text) < 60 else f'{text[:60]}...'
    try:
        strides = str(tuple(value.stride()))
    except (RuntimeError, ValueError):
        # Sparse, nested and uninitialised tensors have none, the last not even a shape.
        return f'{type(value).__name__}:{value.dtype}:{value.layout}'
    grad = ', grad' if value.requires_grad else ''
    return f'{type(value).__name__}{list(value.shape)}:{value.dtype}:{value.device}, strides {strides}{grad}'


def draw_call(
    rng: random.Random,
    dtype: torch.dtype | None = None,
    peripheral: bool | None = None,
    smallest_batch: int = 0,
    backend: bool = True,
) -> Call:
    """A valid call on the CPU, small but with every relation of kernel and map."""
    dtype = rng.choice(DTYPES) if dtype is None else dtype
    peripheral = rng.random() < 0.4 if peripheral is None else peripheral
    n, c = rng.randint(smallest_batch, 3), rng.choice((1, 2, 3, 5, 16, 17))
    h, w = (rng.choice((1, 2, rng.randint(3, 12), rng.randint(3, 40))) for _ in range(2))
    x = torch.randn(n, c, h, w, dtype=dtype)
    bias = torch.randn(c, dtype=dtype) if rng.random() < 0.5 else None
    if peripheral:
        half = [rng.randint(1, 6) for _ in range(rng.randint(0, 3))]
        grid = (*half, rng.choice((1, 3, 5)), *reversed(half))
        weight = torch.randn(c, 1, len(grid), len(grid), dtype=dtype)
        chosen = rng.choice(PERIPHERAL_BACKENDS) if backend else None
        # What computes nothing has no algorithm of its own.
        chosen = None if chosen == 'shared/cpu' and not x.numel() else chosen
        return Call(x, weight, bias, chosen, grid, True)
    r, s = (2 * rng.choice((0, 1, 2, rng.randint(0, 8), rng.randint(0, 25))) + 1 for _ in range(2))
    weight = torch.randn(c, 1, r, s, dtype=dtype)
    return Call(x, weight, bias, rng.choice(BACKENDS) if backend else None)


def require(condition: bool, what: str) -> None:
    """Raise :class:`Wrong` unless a result is as it should be."""
    if not condition:
        raise Wrong(what)


def equation(x: Tensor, weight: Tensor, bias: Tensor | None, grid: tuple[int, ...] | None) -> Tensor:
    """The definition in float64, on tensors with plain strides."""
    x, weight = x.double().contiguous(), weight.double().contiguous()
    if grid is not None:
        repeats = torch.tensor(grid)
        weight = weight.repeat_interleave(repeats, 2).repeat_interleave(repeats, 3)
    r, s = weight.shape[2:]
    padded = F.pad(x, (s // 2, s // 2, r // 2, r // 2))
    y = F.conv2d(padded, weight, groups=x.shape[1])
    return y if bias is None else y + bias.double()[:, None, None]


def check(
    actual: Tensor, expected: Tensor, spread: Tensor, dtype: torch.dtype, what: str, shape: tuple | None = None
) -> None:
    """Raise :class:`Wrong` where a result differs by more than the tolerance of its dtype.

    Args:
        actual: The result.
        expected: The same in float64.
        spread: Root of the sum of the squares of the terms, so that sums which happen to cancel are not held against
            the rounding of their terms.
        dtype: Type of the computation.
        what: Which result, for the message.
        shape: What its shape must be (default: that of ``expected``).
    """
    require(tuple(actual.shape) == tuple(shape or expected.shape), f'{what} has shape {tuple(actual.shape)}')
    require(bool(torch.isfinite(actual).all()), f'{what} is not finite')
    scale = max(expected.norm().item(), spread.norm().item())
    error = (actual.double() - expected).norm().item()
    require(error <= TOLERANCE[dtype] * scale, f'{what} differs by {error / (scale or 1):.3g} (relative)')


def check_forward(call: Call, y: Tensor, dtype: torch.dtype | None = None) -> None:
    """Raise :class:`Wrong` unless ``y`` is the result of a call whose tensors are plain and on the CPU."""
    dtype = dtype or call.x.dtype
    require(y.dtype == dtype, f'the output has dtype {y.dtype}')
    values = [None if tensor is None else tensor.detach().double() for tensor in (call.x, call.weight, call.bias)]
    squares = [None if tensor is None else tensor**2 for tensor in values]
    grid = call.sharing_grid if call.peripheral else None
    check(y.detach(), equation(*values, grid), equation(*squares, grid).sqrt(), dtype, 'the output')


def check_gradients(call: Call, y: Tensor, grad: Tensor, dtype: torch.dtype | None = None) -> None:
    """As :func:`check_forward`, for the gradients of those tensors that require one."""
    dtype = dtype or call.x.dtype
    leaves = [tensor for tensor in call.tensors if tensor.requires_grad]
    if not leaves:
        require(not y.requires_grad, 'the output requires a gradient that no input asked for')
        return
    actual = torch.autograd.grad(y, leaves, grad)
    expected, spread = _reference_gradients(call, grad, 1), _reference_gradients(call, grad, 2)
    for leaf, result, wide, squares in zip(leaves, actual, expected, spread, strict=True):
        require(result.dtype == leaf.dtype, f'a gradient has dtype {result.dtype}, its tensor {leaf.dtype}')
        check(result, wide, squares.sqrt(), dtype, f'the gradient of a tensor {tuple(leaf.shape)}')


def _reference_gradients(call: Call, grad: Tensor, power: int) -> tuple[Tensor, ...]:
    wide = [
        None if tensor is None else (tensor.detach().double() ** power).requires_grad_(tensor.requires_grad)
        for tensor in (call.x, call.weight, call.bias)
    ]
    y = equation(*wide, call.sharing_grid if call.peripheral else None)
    leaves = [tensor for tensor in wide if tensor is not None and tensor.requires_grad]
    return torch.autograd.grad(y, leaves, grad.detach().double() ** power)

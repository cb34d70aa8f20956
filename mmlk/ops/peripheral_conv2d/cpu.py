"""The sharing structure on the CPU: spectra of the kernels straight from the k' x k' parameters, and back.

The expanded kernel is a sum of k' x k' boxes, so its spectrum is E_h^T theta E_w with E the spectra of the k' boxes of
an axis: two small matrix products instead of the expansion and its transform. The gradient of the parameters is the
transposed product with the spectrum of the taps' gradient. Nothing of size K x K exists. Everything else is the FFT
algorithm of the dense kernel (:mod:`mmlk.ops.depthwise_conv2d.cpu.fft`), and it is taken where that would be.

Measured (2 cores, N = 2, K = 51 on 128 x 128 pixels): the two products take 0.3 ms where expansion and transform take
0.9, and 0.5 ms where the transform back takes 1.2. A sum of box images in the pixel domain (169 taps on 25 images of
box sums) needs 169 passes over the map and is out of the question.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from mmlk.ops.depthwise_conv2d.cpu import fastest, fft
from mmlk.ops.peripheral_conv2d.sharing import Grid, crop_grid


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, grid: Grid) -> Tensor:
    """Correlation with the expanded kernel."""
    rows, columns, size = _axes(x, grid)
    # Correlating is convolving with the kernel turned by 180 degrees.
    return fft.convolve(x, _Kernel(x, weight.flip(2, 3), rows[::-1], columns[::-1]), size, bias)


def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor, grid: Grid) -> Tensor:
    """Gradient (N, C, H, W) of the input."""
    rows, columns, size = _axes(x, grid)
    return fft.convolve(grad_output, _Kernel(x, weight, rows, columns), size, None)


def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor, grid: Grid) -> Tensor:
    """Gradient (C, 1, k', k') of the parameters."""
    return _gradients(grad_output, x, weight, grid, needs_input=False)[1]


def backward(grad_output: Tensor, x: Tensor, weight: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Both gradients."""
    return _gradients(grad_output, x, weight, grid, needs_input=True)


def why_not(x: Tensor, weight: Tensor, grid: Grid) -> str | None:
    """The reason why it cannot run a call, or ``None``."""
    if x.device.type != 'cpu':
        return f'it computes on the CPU, and x is on {x.device}'
    return None if x.numel() else 'there is nothing to compute'


def why_rather_not(pass_name: str, x: Tensor, weight: Tensor, grid: Grid) -> str | None:
    """The reason why the expanded kernel is faster, or ``None``."""
    edge = sum(grid)
    # The two gradients come together, but for the first layer and for frozen ones.
    name = fastest('forward' if pass_name == 'forward' else 'backward', x, weight.new_empty(0, 1, edge, edge))
    return None if name == 'fft' else f'for this shape the dense kernel is faster by {name}'


class _Kernel:
    """Spectra of the expanded kernels of a slice of channels."""

    def __init__(self, x: Tensor, weight: Tensor, rows: Grid, columns: Grid) -> None:
        height, width = fft.transform_shape(*x.shape[2:], sum(rows), sum(columns))
        self.weight = weight[:, 0] if weight.dtype in fft.FFT_DTYPES else weight[:, 0].float()
        self.rows = _box_spectra(rows, height, False, self.weight.dtype)
        self.columns = torch.view_as_real(_box_spectra(columns, width, True, self.weight.dtype)).flatten(1)

    def __call__(self, channels: slice) -> Tensor:
        weight = self.weight[channels]
        # Real times complex, as one real product.
        half = (weight.flatten(0, 1) @ self.columns).view(*weight.shape[:2], -1, 2)
        return self.rows.T @ torch.view_as_complex(half)


def _gradients(
    grad_output: Tensor, x: Tensor, weight: Tensor, grid: Grid, needs_input: bool
) -> tuple[Tensor | None, Tensor]:
    rows, columns, size = _axes(x, grid)
    kernel = _Kernel(x, weight, rows, columns)
    height, width = fft.transform_shape(*x.shape[2:], *size)
    row_waves = _box_waves(rows, height, False, kernel.weight.dtype)
    column_waves = _box_waves(columns, width, True, kernel.weight.dtype)
    out = torch.empty_like(weight, memory_format=torch.contiguous_format)

    def collect(channels: slice, total: Tensor) -> None:
        out[channels, 0] = (row_waves @ (total @ column_waves.T)).real.to(weight.dtype)

    return fft.differentiate(grad_output, x, kernel if needs_input else None, size, collect), out


def _axes(x: Tensor, grid: Grid) -> tuple[Grid, Grid, tuple[int, int]]:
    """The grids of rows and columns without taps that cannot touch the map, and the size of the kernel left."""
    rows, columns = (crop_grid(grid, max(0, sum(grid) // 2 - (size - 1))) for size in x.shape[2:])
    return rows, columns, (sum(rows), sum(columns))


@lru_cache(maxsize=256)
def _box_spectra(grid: Grid, length: int, half: bool, dtype: torch.dtype) -> Tensor:
    """Spectra (k', L or L // 2 + 1) of the indicators of the groups, taps counted from 0."""
    waves = _waves(sum(grid), length, half, first=0).conj()
    return torch.stack([part.sum(0) for part in waves.split(grid)]).to(_complex(dtype))


@lru_cache(maxsize=256)
def _box_waves(grid: Grid, length: int, half: bool, dtype: torch.dtype) -> Tensor:
    """What the spectrum of the taps is multiplied with and summed for the sum over each group (k', L or L // 2 + 1)."""
    waves = _waves(sum(grid), length, half, first=-(sum(grid) // 2)) / length
    if half:
        # The real transform leaves out the conjugate half.
        waves[:, 1 : (length + 1) // 2] *= 2
    return torch.stack([part.sum(0) for part in waves.split(grid)]).to(_complex(dtype))


def _waves(taps: int, length: int, half: bool, first: int) -> Tensor:
    """exp(2 pi i u r / L) for taps r = first, first + 1, ... (rows) and frequencies u (columns), in complex128."""
    frequencies = torch.arange(length // 2 + 1 if half else length)
    turns = torch.outer(torch.arange(first, first + taps), frequencies) % length
    return torch.polar(torch.ones(turns.shape, dtype=torch.float64), turns.double() * (2 * math.pi / length))


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype == torch.float64 else torch.complex64

"""Is a result right? Exact float64 samples of output and gradients, compared before any time is printed.

A depthwise convolution can be checked in parts: whole planes of a few channels show a wrong position, a few positions
and taps of all images and channels show a wrong channel. Both are computed from the definition, tap by tap, on the
device of the tensors, by element-wise operations only: no convolution or FFT library takes part.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

#: ||a - b|| / ||b|| allowed for sums of up to 10^4 terms, by dtype; the table of the test suite.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 2e-6, torch.float64: 1e-13}
_TERMS = 10_000

#: Random places besides a corner and the centre.
POSITIONS = 3


def tolerance(dtype: torch.dtype, terms: int) -> float:
    """Relative error allowed for sums of ``terms`` products.

    The rounding of inputs and outputs, and that of a running sum, which grows with the square root of its length
    (float32 for the 16-bit dtypes).
    """
    accumulator = torch.float64 if dtype == torch.float64 else torch.float32
    return TOLERANCE[dtype] + TOLERANCE[accumulator] * (math.sqrt(max(terms, _TERMS) / _TERMS) - 1)


class Expectation:
    """Samples of y, dx and dw in float64, and the errors of results against them.

    Args:
        x: Input (N, C, H, W).
        weight: Kernels (C, 1, R, S), or with a grid the parameters (C, 1, k', k').
        grad: Gradient of the output (N, C, H, W).
        grid: Taps that share a parameter, per group along both axes; empty: each tap has its own.
        seed: Of the choice of positions.
    """

    def __init__(self, x: Tensor, weight: Tensor, grad: Tensor, grid: tuple[int, ...] = (), seed: int = 0) -> None:
        x, weight, grad = x.detach(), weight.detach(), grad.detach()
        n, c, h, w = x.shape
        sizes = [grid or (1,) * edge for edge in weight.shape[2:]]
        groups = [_offsets(size) for size in sizes]
        for dim, size in enumerate(sizes, 2):
            weight = weight.repeat_interleave(torch.tensor(size, device=weight.device), dim)
        r, s = weight.shape[2:]
        self.dtype = x.dtype
        self.channels = sorted({0, c - 1})
        chooser = torch.Generator().manual_seed(seed)
        self.positions = _choose(h, w, chooser)
        self.taps = _choose(len(groups[0]), len(groups[1]), chooser)
        planes = [tensor[:, self.channels].double() for tensor in (x, grad)]
        kernels = weight[self.channels, 0].double()
        self.planes = {
            'y': _correlate(planes[0], kernels),
            'dx': _correlate(planes[1], kernels.flip(1, 2)),
            'dw': _sum_groups(_correlate_maps(planes[0], planes[1], r, s), *sizes),
        }
        self.samples = {
            'y': torch.stack([_window_sum(x, weight, p, q) for p, q in self.positions]),
            'dx': torch.stack([_window_sum(grad, weight.flip(2, 3), p, q) for p, q in self.positions]),
            'dw': torch.stack([_tap_sum(x, grad, groups[0][i], groups[1][j]) for i, j in self.taps]),
        }
        self.tolerances = {
            'y': tolerance(x.dtype, r * s),
            'dx': tolerance(x.dtype, r * s),
            'dw': tolerance(x.dtype, n * h * w),
        }

    def error(self, name: str, result: Tensor) -> float:
        """Largest relative error of a result, of its planes and of its samples; infinite if it holds NaN or infinity.

        Args:
            name: ``'y'``, ``'dx'`` or ``'dw'``.
            result: What was computed.
        """
        result = result.detach()
        if not torch.isfinite(result).all():
            return math.inf
        if name == 'dw':
            planes = result[self.channels, 0]
            samples = torch.stack([result[:, 0, i, j] for i, j in self.taps])
        else:
            planes = result[:, self.channels]
            samples = torch.stack([result[:, :, p, q] for p, q in self.positions])
        return max(_relative(planes, self.planes[name]), _relative(samples, self.samples[name]))


def _relative(actual: Tensor, expected: Tensor) -> float:
    return ((actual.double() - expected).norm() / expected.norm().clamp_min(1e-300)).item()


def _choose(height: int, width: int, chooser: torch.Generator) -> list[tuple[int, int]]:
    """A corner, the centre and random places of a height x width grid."""
    rows = torch.randint(height, (POSITIONS,), generator=chooser).tolist()
    columns = torch.randint(width, (POSITIONS,), generator=chooser).tolist()
    return sorted({(0, 0), (height // 2, width // 2), *zip(rows, columns, strict=True)})


def _correlate(planes: Tensor, kernels: Tensor) -> Tensor:
    """Correlate (N, c, H, W) with (c, R, S), zeros outside, tap by tap."""
    r, s = kernels.shape[1:]
    h, w = planes.shape[2:]
    padded = F.pad(planes, (s // 2, s // 2, r // 2, r // 2))
    out = torch.zeros_like(planes)
    for i, j in _taps_that_meet(r, s, h, w):
        out.addcmul_(kernels[None, :, i, j, None, None], padded[:, :, i : i + h, j : j + w])
    return out


def _correlate_maps(x: Tensor, grad: Tensor, r: int, s: int) -> Tensor:
    """Gradient (c, R, S) of the kernels from (N, c, H, W) maps, tap by tap."""
    h, w = x.shape[2:]
    padded = F.pad(x, (s // 2, s // 2, r // 2, r // 2))
    out = x.new_zeros(x.shape[1], r, s)
    for i, j in _taps_that_meet(r, s, h, w):
        out[:, i, j] = (padded[:, :, i : i + h, j : j + w] * grad).sum((0, 2, 3))
    return out


def _taps_that_meet(r: int, s: int, h: int, w: int) -> list[tuple[int, int]]:
    """Taps whose products are not all with zeros outside the map."""
    rows = [i for i in range(r) if abs(i - r // 2) < h]
    columns = [j for j in range(s) if abs(j - s // 2) < w]
    return [(i, j) for i in rows for j in columns]


def _window_sum(x: Tensor, weight: Tensor, p: int, q: int) -> Tensor:
    """Output (N, C) at position (p, q)."""
    (h, w), (r, s) = x.shape[2:], weight.shape[2:]
    top, left = p - r // 2, q - s // 2
    rows, columns = (max(0, top), min(h, top + r)), (max(0, left), min(w, left + s))
    window = x[:, :, slice(*rows), slice(*columns)].double()
    kernel = weight[:, 0, rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left].double()
    return (window * kernel).sum((2, 3))


def _offsets(sizes: tuple[int, ...]) -> list[range]:
    """Of each group of adjacent taps how far they lie from the centre."""
    ends = list(accumulate(sizes, initial=-(sum(sizes) // 2)))
    return [range(*pair) for pair in pairwise(ends)]


def _sum_groups(taps: Tensor, rows: tuple[int, ...], columns: tuple[int, ...]) -> Tensor:
    """Gradient (c, k', k') of the parameters from that of the taps (c, R, S)."""
    taps = torch.stack([part.sum(1) for part in taps.split(rows, 1)], 1)
    return torch.stack([part.sum(2) for part in taps.split(columns, 2)], 2)


def _tap_sum(x: Tensor, grad: Tensor, down: range, right: range) -> Tensor:
    """Gradient (C,) of the parameter of the taps that lie ``down`` and ``right`` of the centre."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    # All at once would need the whole map in float64.
    for a, b in zip(x, grad, strict=True):
        total += (_sum_moved(_sum_moved(a.double(), down, 1), right, 2) * b.double()).sum((1, 2))
    return total


def _sum_moved(x: Tensor, offsets: range, dim: int) -> Tensor:
    """sum_d x[p + d] along an axis, zeros outside."""
    total, size = torch.zeros_like(x), x.shape[dim]
    for offset in offsets:
        length = max(0, size - abs(offset))
        start = min(size, max(0, -offset)), min(size, max(0, offset))
        total.narrow(dim, start[0], length).add_(x.narrow(dim, start[1], length))
    return total

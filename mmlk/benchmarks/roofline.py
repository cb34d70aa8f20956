"""What a depthwise convolution costs at least: operations, bytes, and the time they take on a machine.

Dimensions: N batch, C channels, H W input, R S kernel. FLOPs are two per multiply-accumulate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise

#: Passes a row can be about. ``backward`` is both gradients at once, ``forward_backward`` a training step's work.
PASSES = ('forward', 'grad_input', 'grad_weight', 'backward', 'forward_backward')

#: Per pass: convolutions, maps (N, C, H, W) read or written, kernels (C, 1, R, S) read or written, maps transformed by
#: an implementation through the FFT that computes no spectrum twice.
_WORK = {
    'forward': (1, 2, 1, 2),
    'grad_input': (1, 2, 1, 2),
    'grad_weight': (1, 2, 1, 2),
    'backward': (2, 3, 2, 3),
    'forward_backward': (3, 5, 3, 4),
}


@dataclass(frozen=True)
class Ceilings:
    """Rates of a machine.

    Attributes:
        bytes_per_s: Memory traffic, reads plus writes.
        fma_flops: Arithmetic in the units every program uses, in float32.
        matrix_flops: Arithmetic in matrix units in the dtype of the row; equal to ``fma_flops`` where there are none.
    """

    bytes_per_s: float
    fma_flops: float
    matrix_flops: float


#: One H100 SXM by its data sheet: HBM, FP32 FFMA, dense bf16 MMA.
H100 = Ceilings(3.35e12, 67e12, 989e12)


@dataclass(frozen=True)
class Bound:
    """Lower bounds of a pass in milliseconds.

    Attributes:
        memory_ms: Every map and kernel moved once.
        fma_ms: The multiply-accumulates whose tap lies inside the map, without matrix units.
        matrix_ms: The same with them.
        fft_ms: The transforms and products of an FFT of the shortest usable length, without matrix units.
        bound_ms: What no implementation goes below: memory, or the cheapest arithmetic if that is longer.
        bound: ``'memory'``, ``'fma'``, ``'matrix'`` or ``'fft'``, whichever ``bound_ms`` is.
    """

    memory_ms: float
    fma_ms: float
    matrix_ms: float
    fft_ms: float
    bound_ms: float
    bound: str


def taps_inside(edge: int, kernel: int) -> int:
    """Along one axis: pairs of an output position and a kernel tap that meet inside the map."""
    half = kernel // 2
    return sum(min(edge - 1, p + half) - max(0, p - half) + 1 for p in range(edge))


def groups_inside(edge: int, grid: tuple[int, ...]) -> int:
    """Along one axis: pairs of an output position and a group of taps of which at least one meets the map."""
    ends = list(accumulate(grid, initial=-(sum(grid) // 2)))
    return sum(p + end > 0 and p + first < edge for first, end in pairwise(ends) for p in range(edge))


def dense_flops(size: tuple[int, ...]) -> float:
    """FLOPs of one convolution that computes with the zeros outside the map too."""
    n, c, h, w, r, s = size
    return 2.0 * n * c * h * w * r * s


def clipped_flops(size: tuple[int, ...], grid: tuple[int, ...] = ()) -> float:
    """FLOPs of one convolution, only taps inside the map. The two gradients have the same number.

    With a sharing grid only one product per parameter, with the sum of its pixels; the sums are not counted.
    """
    n, c, h, w, r, s = size
    rows, columns = (
        groups_inside(edge, grid) if grid else taps_inside(edge, kernel) for edge, kernel in ((h, r), (w, s))
    )
    return 2.0 * n * c * rows * columns


def fft_length(edge: int, kernel: int) -> int:
    """Shortest even 7-smooth length that holds ``edge`` and half the kernel.

    Half is enough: what wraps around lands in the part that is cropped.
    """
    length = edge + kernel // 2
    while length % 2 or not _is_smooth(length):
        length += 1
    return length


def fft_flops(size: tuple[int, ...], maps: int = 2, products: int = 1) -> float:
    """FLOPs of ``maps`` real transforms of all planes and ``products`` complex products per frequency.

    A real transform of l points counts 2.5 l log2 l.
    """
    n, c, h, w, r, s = size
    a, b = fft_length(h, r), fft_length(w, s)
    transform = 2.5 * a * b * math.log2(a * b)
    product = 6.0 * a * (b // 2 + 1)
    return n * c * (maps * transform + products * product)


def minimal_bytes(size: tuple[int, ...], itemsize: int, pass_name: str = 'forward') -> float:
    """Bytes of memory traffic if every operand is moved once per convolution step."""
    n, c, h, w, r, s = size
    _, maps, kernels, _ = _WORK[pass_name]
    return float(itemsize) * (maps * n * c * h * w + kernels * c * r * s)


def bound(
    size: tuple[int, ...], itemsize: int, pass_name: str, ceilings: Ceilings, grid: tuple[int, ...] = ()
) -> Bound:
    """Lower bounds of one pass of a shape (N, C, H, W, R, S) with elements of ``itemsize`` bytes.

    With a sharing grid the kernel that is read and written has one element per parameter.
    """
    convolutions, _, _, maps = _WORK[pass_name]
    flops = convolutions * clipped_flops(size, grid)
    stored = (*size[:4], len(grid), len(grid)) if grid else size
    memory = 1e3 * minimal_bytes(stored, itemsize, pass_name) / ceilings.bytes_per_s
    arithmetic = {
        'fma': 1e3 * flops / ceilings.fma_flops,
        'matrix': 1e3 * flops / ceilings.matrix_flops,
        'fft': 1e3 * fft_flops(size, maps, convolutions) / ceilings.fma_flops,
    }
    cheapest = min(arithmetic, key=arithmetic.get)
    name = 'memory' if memory >= arithmetic[cheapest] else cheapest
    return Bound(
        memory_ms=memory,
        fma_ms=arithmetic['fma'],
        matrix_ms=arithmetic['matrix'],
        fft_ms=arithmetic['fft'],
        bound_ms=max(memory, arithmetic[cheapest]),
        bound=name,
    )


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1

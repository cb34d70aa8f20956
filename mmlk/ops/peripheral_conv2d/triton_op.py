"""The ``triton`` backend of the peripheral convolution: rows of the kernel that repeat are multiplied once.

The expanded kernel (K x K) of a sharing grid has k' distinct rows; row a repeats grid[a] times. Hence

    y[n,c,p,q] = sum_a sum_s w[c,a,s] * V_{grid[a]}[n,c,p + o_a,q + s - K//2],   V_g[h] = x[h] + .. + x[h + g - 1]

with o_a the first of the rows that share a, relative to the centre. One kernel writes V for the distinct sizes, then
the dense kernels of ``depthwise_conv2d`` run with k' rows instead of K, each read from its own V. The gradient of the
k' x k' parameters sums the columns of a group in the last kernel; nothing of size K x K is written. V is rounded to the
dtype of ``x``, an error of the size of its own rounding.

Every pass needs memory for one map per distinct size of the grid, a little higher than ``x``.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mmlk.ops.depthwise_conv2d import triton_op as dense
from mmlk.ops.depthwise_conv2d.triton_tiles import (
    LAUNCH,
    MEMORY_RATE,
    BandTiles,
    Shape,
    WeightTiles,
    band_tiles,
    predicted_time,
    weight_tiles,
)
from mmlk.ops.memory_format import output_format
from mmlk.ops.peripheral_conv2d.sharing import Grid


def forward(x: Tensor, theta: Tensor, bias: Tensor | None, grid: Grid) -> Tensor:
    """Depthwise convolution of ``x`` with ``theta`` (C, 1, k', k') expanded along both axes by ``grid``."""
    return _correlate(x, theta, grid, bias, like=x, flip=False)


def grad_input(grad_output: Tensor, x: Tensor, theta: Tensor, grid: Grid) -> Tensor:
    """Gradient (N, C, H, W) of the input: the same with kernel and grid turned."""
    return _correlate(grad_output, theta, grid, None, like=x, flip=True)


def grad_weight(grad_output: Tensor, x: Tensor, theta: Tensor, grid: Grid) -> Tensor:
    """Gradient (C, 1, k', k') of the parameters, summed in a fixed order."""
    if not x.numel():
        return torch.zeros_like(theta, memory_format=torch.contiguous_format)
    grad = dense._empty(theta.shape, dtype=theta.dtype, device=theta.device)
    shape, tiles = _shape(x, grid), weight_candidates(x, grid)[0]
    with dense._device(x):
        sums, table = _row_sums(dense._rows(x, False), grid)
        edges = tuple(sum(grid[:b]) for b in range(len(grid) + 1))
        dense._weight_launch(shape, tiles, sums, dense._rows(grad_output, False), grad, table, edges)
    return grad


def why_not(x: Tensor, theta: Tensor, grid: Grid) -> str | None:
    """The reason why the kernels cannot run this call, or ``None``."""
    return dense.why_not(x, theta.new_empty(1, device='meta').expand(1, 1, sum(grid), sum(grid)))


def why_rather_not(pass_name: str, x: Tensor, theta: Tensor, grid: Grid) -> str | None:
    """The reason why the dense kernels on the expanded kernel are expected to be as fast, or ``None``. A prediction."""
    if not x.numel():
        return 'the input is empty'
    if x.device.type == 'cpu':
        return "Triton's interpreter is for tests, which name the backend"
    collapsed = predicted_time(pass_name, _shape(x, grid))
    sums = (1 + len(set(grid))) * x.numel() * x.element_size() / MEMORY_RATE + 2 * LAUNCH
    expanded = predicted_time(pass_name, dense._shape(x, dense._crop(x, theta.new_empty(1, 1, sum(grid), sum(grid)))))
    if collapsed + sums < expanded:
        return None
    return f'the dense kernel is predicted to be as fast ({expanded:.0f} against {collapsed + sums:.0f} microseconds)'


def band_candidates(x: Tensor, grid: Grid) -> list[BandTiles]:
    """Tiles of forward and input gradient that have one row per block, as every row of V has its own place."""
    return [tiles for tiles in band_tiles(_shape(x, grid)) if tiles.g == 1]


def weight_candidates(x: Tensor, grid: Grid) -> list[WeightTiles]:
    """The same for the weight gradient."""
    return [tiles for tiles in weight_tiles(_shape(x, grid)) if tiles.g == 1]


def _correlate(x: Tensor, theta: Tensor, grid: Grid, bias: Tensor | None, like: Tensor, flip: bool) -> Tensor:
    y = dense._empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        shape, tiles = _shape(x, grid), band_candidates(x, grid)[0]
        with dense._device(x):
            sums, table = _row_sums(dense._rows(x, False), grid[::-1] if flip else grid)
            columns = [theta[..., b : b + 1].expand(-1, -1, -1, size) for b, size in enumerate(grid)]
            dense._band_launch(shape, tiles, sums, torch.cat(columns, -1), bias, y, flip, table)
    return y.contiguous(memory_format=output_format(like))


def _row_sums(x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """V of the smallest size (N, C, H + P, W), the others behind it, and the table of where each row reads."""
    sizes = tuple(sorted(set(grid)))
    above = sizes[-1] - 1
    n, c, h, w = x.shape
    sums = dense._empty((len(sizes), n, c, h + above, w), dtype=x.dtype, device=x.device)
    plane, rows = n * c * (h + above) * w, h + above
    block_w = min(128, 1 << (w - 1).bit_length())
    block_h = 1024 // block_w
    row_tiles, col_tiles = -(-rows // block_h), -(-w // block_w)
    kernels = _kernels()
    strides = (x.stride(axis) for axis in range(3))
    programs = n * c * row_tiles * col_tiles
    kernels.sum_rows_kernel[(programs,)](
        x,
        sums,
        c,
        h,
        w,
        rows,
        row_tiles,
        col_tiles,
        plane,
        *strides,
        COUNT=len(sizes),
        SIZES=sizes,
        BH=block_h,
        BW=block_w,
    )
    # Row p + o_a of V is stored ``above`` rows further down.
    first = tuple(sum(grid[:a]) - sum(grid) // 2 + above for a in range(len(grid)))
    planes = tuple(sizes.index(size) for size in grid)
    table = torch.empty((2, len(grid)), dtype=torch.int64, device=x.device)
    kernels.row_table_kernel[(1,)](table, plane, w, COUNT=len(grid), PLANES=planes, ROWS=first)
    return sums[0], table


def _shape(x: Tensor, grid: Grid) -> Shape:
    """The dense call with k' rows of K columns that the kernels see."""
    return dense._shape(x, (len(grid), sum(grid)))


@cache
def _kernels():
    from mmlk.ops.peripheral_conv2d import triton_kernels

    return triton_kernels

"""Triton kernels for kernels whose rows repeat: sums of adjacent rows, and where a row of the sum finds its source.

Dimensions: N batch, C channels, H W map. This module needs triton and is imported by the launchers only, when they run.
"""

import triton
import triton.language as tl


@triton.jit(
    do_not_specialize=['C', 'H', 'W', 'rows', 'row_tiles', 'col_tiles', 'plane', 'stride_n', 'stride_c', 'stride_h']
)
def sum_rows_kernel(
    x_ptr,
    sums_ptr,
    C,
    H,
    W,
    rows,
    row_tiles,
    col_tiles,
    plane,
    stride_n,
    stride_c,
    stride_h,
    COUNT: tl.constexpr,
    SIZES: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
):
    """sums[d, n, c, h + P, w] = sum_{j < SIZES[d]} x[n, c, h + j, w] for h = -P .. H-1, P = SIZES[-1] - 1.

    SIZES ascend: one running sum passes all of them. ``rows`` is H + P, ``plane`` the elements of one d.
    """
    pid = tl.program_id(0)
    tile = pid // col_tiles % row_tiles
    nc = (pid // col_tiles // row_tiles).to(tl.int64)
    row = tile * BH + tl.arange(0, BH)[:, None]
    w = pid % col_tiles * BW + tl.arange(0, BW)[None, :]
    mask = (row < rows) & (w < W)
    x_ptr += nc // C * stride_n + nc % C * stride_c
    sums_ptr += nc * rows * W
    acc = tl.zeros((BH, BW), dtype=tl.float32)
    j = 0
    for d in tl.static_range(COUNT):
        for _ in tl.static_range(SIZES[d] - (SIZES[d - 1] if d else 0)):
            h = row + j - (SIZES[COUNT - 1] - 1)
            inside = mask & (h >= 0) & (h < H)
            acc += tl.load(x_ptr + h.to(tl.int64) * stride_h + w, mask=inside, other=0.0).to(tl.float32)
            j += 1
        tl.store(sums_ptr + d * plane + row * W + w, acc.to(sums_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=['plane', 'stride'])
def row_table_kernel(table_ptr, plane, stride, COUNT: tl.constexpr, PLANES: tl.constexpr, ROWS: tl.constexpr):
    """table[0, a] = ROWS[a], table[1, a] = PLANES[a] * plane + ROWS[a] * stride.

    Written on the device, because a copy from the host has no place in a CUDA graph.
    """
    for a in tl.static_range(COUNT):
        row = tl.full((), ROWS[a], tl.int64)
        tl.store(table_ptr + a, row)
        tl.store(table_ptr + COUNT + a, row * stride + tl.full((), PLANES[a], tl.int64) * plane)

"""Triton kernels: the row-band Toeplitz product, its weight gradient and their small helpers.

Dimensions: N batch, C channels, H W map, R S kernel, all of the orientation the launcher chose. One output column tile
is ``WT`` columns, one row block ``G`` rows. ``m`` counts (row block, image), image fastest, so that a tile of ``BM``
holds few row blocks and needs few input rows.

    acc[m, (d, o)] += sum_i x[n, c, G*block + r - R//2, w0 - LEAD + i] * band[r - d][i, o],   band[kh][i, o] = w[kh, s]
    with s = i - o + S//2 - LEAD, zero outside the kernel, summed over r in 0 .. R+G-2

The band matrix is never written out. A row of the kernel is stored ``LANES`` times in a zero-padded row of ``LENGTH``
elements, copy ``a`` shifted right by ``a``; element (i, o) is then element ``i - o//LANES*LANES + WT`` of copy
``o % LANES``. Along ``i`` that is contiguous and 16-byte aligned, which the asynchronous copies and the tensor cores of
Hopper ask for, and it is WT / LANES times smaller than the matrix.

With ``TABLE`` row r of the sum is read from a place of its own: table[0, r] is its row in a source of ``height`` rows,
relative to the output row, table[1, r] its offset in memory in elements (see ../peripheral_conv2d).

Sizes and strides are no compile-time constants: one compilation serves every image size. ``ALIGN`` is the power of two
that divides the width and all strides; they arrive divided by it and are multiplied back, which is how the compiler
learns that rows are aligned and that a mask never splits a vector. Offsets that can pass 2^31 are 64-bit.

This module needs triton and is imported by the launchers only, when they run.
"""

import triton
import triton.language as tl

_SPREAD_SIZES = ['rows', 'R', 'S', 'stride_wc', 'stride_wr', 'stride_ws', 'first']
_BAND_SIZES = ['N', 'H', 'height', 'width', 'R', 'blocks', 'm_tiles', 'col_tiles', 'stride_b']
_BAND_SIZES += [f'stride_{tensor}{axis}' for tensor in 'xy' for axis in 'nch']
_WEIGHT_SIZES = ['N', 'H', 'height', 'width', 'R', 'blocks', 'groups', 'chunks', 'splits', 'col_tiles']
_WEIGHT_SIZES += [f'stride_{tensor}{axis}' for tensor in 'xg' for axis in 'nch']
_SUM_SIZES = ['R', 'S', 'rows', 'chunks', 'splits', 'stride_wc', 'stride_wr', 'stride_ws', 'first']


@triton.jit(do_not_specialize=_SPREAD_SIZES)
def spread_taps_kernel(
    weight_ptr,
    taps_ptr,
    rows,
    R,
    S,
    stride_wc,
    stride_wr,
    stride_ws,
    first,
    FLIP: tl.constexpr,
    G: tl.constexpr,
    LANES: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write taps (C, rows, LANES, LENGTH): kernel row ``row - (G-1)``, its first tap at ``first`` plus the lane.

    One program per (channel, row); rows outside the kernel become zeros. ``FLIP`` turns the kernel by 180 degrees.
    """
    pid = tl.program_id(0)
    c = (pid // rows).to(tl.int64)
    r = pid % rows - (G - 1)
    lane = tl.arange(0, LANES)[:, None]
    offs = tl.arange(0, BLOCK)[None, :]
    s = offs - lane - first
    mask = (r >= 0) & (r < R) & (s >= 0) & (s < S)
    if FLIP:
        r = R - 1 - r
        s = S - 1 - s
    taps = tl.load(weight_ptr + c * stride_wc + r.to(tl.int64) * stride_wr + s * stride_ws, mask=mask, other=0.0)
    tl.store(taps_ptr + (pid.to(tl.int64) * LANES + lane) * LENGTH + offs, taps, mask=offs < LENGTH)


@triton.jit(do_not_specialize=_BAND_SIZES)
def band_fwd_kernel(
    x_ptr,
    taps_ptr,
    bias_ptr,
    y_ptr,
    table_ptr,
    N,
    H,
    height,
    width,
    R,
    blocks,
    m_tiles,
    col_tiles,
    stride_xn,
    stride_xc,
    stride_xh,
    stride_yn,
    stride_yc,
    stride_yh,
    stride_b,
    HAS_BIAS: tl.constexpr,
    TABLE: tl.constexpr,
    ALIGN: tl.constexpr,
    WT: tl.constexpr,
    G: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    LEAD: tl.constexpr,
    CHUNKS: tl.constexpr,
    LANES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile of BM (row block, image) pairs times G * WT output pixels of one channel.

    The loop runs over the input rows that any of the tile's row blocks can see and, for each, over the column chunks of
    BK inside the map: taps on the padding are skipped, not multiplied.
    """
    LENGTH: tl.constexpr = CHUNKS * BK + WT
    W = width * ALIGN
    pid = tl.program_id(0)
    m0 = pid % m_tiles * BM
    w0 = pid // m_tiles % col_tiles * WT
    c = (pid // m_tiles // col_tiles).to(tl.int64)

    m = m0 + tl.arange(0, BM)
    block = m // N
    n = (m % N).to(tl.int64)
    mask_m = m < blocks * N
    top = block * G
    if not TABLE:
        top -= R // 2
    column = tl.arange(0, BK)
    x_rows = x_ptr + (c * stride_xc + n * stride_xn + top.to(tl.int64) * stride_xh) * ALIGN

    out = tl.arange(0, G * WT)
    d = out // WT
    o = out % WT
    rows = R + 2 * (G - 1)
    taps = ((G - 1 - d) * LANES + o % LANES) * LENGTH - o // LANES * LANES + WT
    taps_ptrs = taps_ptr + c * rows * LANES * LENGTH + taps[None, :] + column[:, None]

    first_block = m0 // N
    last_block = tl.minimum(m0 + BM, blocks * N) - 1
    last_block = last_block // N
    if TABLE:
        r_begin = 0
        r_end = R
    else:
        r_begin = tl.maximum(R // 2 - last_block * G, 0)
        r_end = tl.minimum(R + G - 1, H + R // 2 - first_block * G)
    k_begin = tl.maximum(LEAD - w0, 0) // BK
    k_end = tl.minimum(CHUNKS, tl.cdiv(W - w0 + LEAD, BK))
    chunks = k_end - k_begin

    acc = tl.zeros((BM, G * WT), dtype=tl.float32)
    for step in range(0, (r_end - r_begin) * chunks):
        r = r_begin + step // chunks
        k = (k_begin + step % chunks) * BK
        if TABLE:
            h = top + tl.load(table_ptr + r).to(tl.int32)
            offset = tl.load(table_ptr + R + r) // ALIGN
        else:
            h = top + r
            offset = r.to(tl.int64) * stride_xh
        w = w0 - LEAD + k + column
        mask_x = (mask_m & (h >= 0) & (h < height))[:, None] & ((w >= 0) & (w < W))[None, :]
        x = tl.load(x_rows[:, None] + offset * ALIGN + w[None, :], mask=mask_x, other=0.0)
        band = tl.load(taps_ptrs + (r * (LANES * LENGTH) + k))
        acc = tl.dot(x, band, acc, input_precision=PRECISION)

    if HAS_BIAS:
        acc += tl.load(bias_ptr + c * stride_b).to(tl.float32)
    h_out = block[:, None] * G + d[None, :]
    w_out = w0 + o
    mask_y = mask_m[:, None] & (h_out < H) & (w_out < W)[None, :]
    y_rows = y_ptr + (c * stride_yc + n[:, None] * stride_yn + h_out.to(tl.int64) * stride_yh) * ALIGN
    tl.store(y_rows + w_out[None, :], acc.to(y_ptr.dtype.element_ty), mask=mask_y)


@triton.jit(do_not_specialize=_WEIGHT_SIZES)
def band_dw_kernel(
    x_ptr,
    g_ptr,
    part_ptr,
    table_ptr,
    N,
    H,
    height,
    width,
    R,
    blocks,
    groups,
    chunks,
    splits,
    col_tiles,
    stride_xn,
    stride_xc,
    stride_xh,
    stride_gn,
    stride_gc,
    stride_gh,
    TABLE: tl.constexpr,
    ALIGN: tl.constexpr,
    WT: tl.constexpr,
    G: tl.constexpr,
    RB: tl.constexpr,
    BI: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    LEAD: tl.constexpr,
    WINDOWS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Partial weight gradients: the transposed product of input rows and output gradient, summed along its diagonals.

    One program has RB consecutive r, one chunk of BI input columns and one split of the (row block, image) axis:

        acc[(r, i), (d, o)] = sum_m x[n, G*block + r - R//2, w0 - LEAD + i] * g[n, G*block + d, w0 + o]
        part[c, split, chunk, r, d, t] = sum_o acc[(r, t - (WT-1) + o), (d, o)]

    All column tiles add into the same acc, since the tap of (i, o) does not depend on w0.
    """
    W = width * ALIGN
    pid = tl.program_id(0)
    group = pid % groups
    chunk = pid // groups % chunks
    split = pid // groups // chunks % splits
    c = (pid // groups // chunks // splits).to(tl.int64)
    r0 = group * RB

    left = tl.arange(0, RB * BI)
    r = left // BI
    i = left % BI
    right = tl.arange(0, G * WT)
    d = right // WT
    o = right % WT

    # Row blocks in which one of the r meets a row of the map, in tiles of BM // BN blocks and BN images.
    if TABLE:
        begin = 0
        end = blocks
        r_table = tl.minimum(r0 + r, R - 1)
        r_in = tl.load(table_ptr + r_table).to(tl.int32)
        x_offset = tl.load(table_ptr + R + r_table) // ALIGN
    else:
        begin = tl.maximum(R // 2 - r0 - RB + G, 0) // G
        end = tl.minimum(blocks, tl.maximum(H + R // 2 - r0 + G - 1, 0) // G)
        r_in = r + (r0 - R // 2)
        x_offset = r_in.to(tl.int64) * stride_xh
    image_tiles = tl.cdiv(N, BN)
    pair_tiles = tl.cdiv(tl.maximum(end - begin, 0), BM // BN) * image_tiles
    share = tl.cdiv(pair_tiles, splits)
    first = split * share
    share = tl.maximum(tl.minimum(share, pair_tiles - first), 0)
    # Column tiles from which this chunk of columns is seen inside the map.
    j_begin = tl.maximum(LEAD - (chunk + 1) * BI + WT, 0) // WT
    j_end = tl.minimum(col_tiles, tl.cdiv(tl.maximum(W + LEAD - chunk * BI, 0), WT))
    tiles = tl.maximum(j_end - j_begin, 0)

    pair = tl.arange(0, BM)
    n = pair % BN
    block = pair // BN
    h_in = (block * G)[:, None] + r_in[None, :]
    h_out = (block * G)[:, None] + d[None, :]
    n_long = n[:, None].to(tl.int64)
    x_rows = c * stride_xc + n_long * stride_xn + (block * G)[:, None].to(tl.int64) * stride_xh
    x_ptrs = x_ptr + (x_rows + x_offset[None, :]) * ALIGN + i[None, :]
    g_ptrs = g_ptr + (c * stride_gc + n_long * stride_gn + h_out.to(tl.int64) * stride_gh) * ALIGN + o[None, :]
    acc = tl.zeros((RB * BI, G * WT), dtype=tl.float32)
    for step in range(0, share * tiles):
        w_out = (j_begin + step % tiles) * WT
        w_in = w_out - LEAD + chunk * BI
        tile = first + step // tiles
        n0 = tile % image_tiles * BN
        h0 = (begin + tile // image_tiles * (BM // BN)) * G
        mask_n = (n < N - n0)[:, None]
        mask_x = mask_n & (h_in >= -h0) & (h_in < height - h0) & ((i >= -w_in) & (i < W - w_in))[None, :]
        mask_g = mask_n & (h_out < tl.minimum(H, end * G) - h0) & (o < W - w_out)[None, :]
        x_step = (n0.to(tl.int64) * stride_xn + h0.to(tl.int64) * stride_xh) * ALIGN + w_in
        g_step = (n0.to(tl.int64) * stride_gn + h0.to(tl.int64) * stride_gh) * ALIGN + w_out
        x = tl.load(x_ptrs + x_step, mask=mask_x, other=0.0)
        g = tl.load(g_ptrs + g_step, mask=mask_g, other=0.0)
        acc = tl.dot(tl.trans(x), g, acc, input_precision=PRECISION)

    grid = tl.reshape(acc, (RB, BI, G, WT))
    r = tl.arange(0, RB)[:, None, None]
    t = tl.arange(0, BI)[None, :, None]
    d = tl.arange(0, G)[None, None, :]
    o = tl.arange(0, WT)[None, None, None, :]
    part_ptr += pid_of_part(c, split, chunk, group, splits, chunks, groups) * (RB * G * WINDOWS * BI)
    for window in tl.static_range(WINDOWS):
        source = t[:, :, :, None] + (window * BI - (WT - 1)) + o
        inside = (source >= 0) & (source < BI)
        source = tl.broadcast_to(tl.where(inside, source, 0), (RB, BI, G, WT))
        diagonal = tl.sum(tl.where(inside, tl.gather(grid, source, axis=1), 0.0), axis=3)
        tl.store(part_ptr + (r * G + d) * (WINDOWS * BI) + window * BI + t, diagonal)


@triton.jit
def pid_of_part(c, split, chunk, group, splits, chunks, groups):
    """Number of the (RB, G, WINDOWS * BI) box of partial sums, in the order channel, split, chunk, group."""
    return ((c * splits + split) * chunks + chunk) * groups + group


@triton.jit(do_not_specialize=_SUM_SIZES)
def sum_dw_kernel(
    part_ptr,
    grad_ptr,
    R,
    S,
    rows,
    chunks,
    splits,
    stride_wc,
    stride_wr,
    stride_ws,
    first,
    G: tl.constexpr,
    BI: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
    BINS: tl.constexpr,
    EDGES: tl.constexpr,
):
    """Add the partial sums of every tap, in a fixed order: dw[kh, s] = sum part[c, split, chunk, kh+d, d, t].

    One program per (channel, kernel row). ``rows`` is the number of r in a part, ``first`` the t of tap 0 in chunk 0.
    With ``BINS`` the taps from EDGES[b] to EDGES[b + 1] become one sum.
    """
    pid = tl.program_id(0)
    c = (pid // R).to(tl.int64)
    kh = pid % R
    s = tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), dtype=tl.float32)
    for part in range(0, splits * chunks):
        t = s + first - part % chunks * BI
        mask = (s < S) & (t >= 0) & (t < LENGTH)
        base = part_ptr + (c * splits * chunks + part) * rows * (G * LENGTH)
        for d in tl.static_range(G):
            acc += tl.load(base + ((kh + d) * G + d) * LENGTH + t, mask=mask, other=0.0)
    grad_ptr += c * stride_wc + kh.to(tl.int64) * stride_wr
    if BINS == 0:
        tl.store(grad_ptr + s * stride_ws, acc.to(grad_ptr.dtype.element_ty), mask=s < S)
    for b in tl.static_range(BINS):
        total = tl.sum(tl.where((s >= EDGES[b]) & (s < EDGES[b + 1]), acc, 0.0), axis=0)
        tl.store(grad_ptr + b * stride_ws, total.to(grad_ptr.dtype.element_ty))

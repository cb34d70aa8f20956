"""The ``triton`` backend: tensor-core kernels for all three passes, on NVIDIA GPUs from compute capability 8.0.

The kernels want rows of adjacent elements. Feature maps come as they are when their rows are (contiguous tensors,
slices of them, any batch, channel and row stride); others (channels_last, every second column) are copied once. Calls
with more kernel rows than columns may run with rows and columns exchanged, see :func:`_orientation`.

All memory comes from PyTorch's allocator, kernels run on the current stream, nothing waits for the device: the passes
can be captured in a CUDA graph. Results are bitwise reproducible. Sums are float32.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor

from mmlk.ops.depthwise_conv2d import triton_autotune
from mmlk.ops.depthwise_conv2d.triton_tiles import (
    PYTHON_OVERHEAD,
    BandTiles,
    Shape,
    WeightTiles,
    band_tiles,
    predicted_time,
    pytorch_time,
    weight_tiles,
)
from mmlk.ops.memory_format import output_format

MAX_KERNEL = 151
#: Row blocks times images are counted in 32 bits.
MAX_ROWS = 2**30


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y[n,c,p,q] = b[c] + sum_{r,s} w[c,0,r,s] * x[n,c,p+r-R//2,q+s-S//2], zeros outside the map.

    The output is channels_last if ``x`` is (and is not contiguous as well), else contiguous.
    """
    return _correlate('forward', x, weight, bias, like=x)


def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient (N, C, H, W) of the input: the same correlation with the kernel turned by 180 degrees."""
    return _correlate('grad_input', grad_output, weight, None, like=x)


def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient (C, 1, R, S) of the kernels, summed over batch and positions in two stages with a fixed order."""
    crop = _crop(x, weight)
    full = torch.zeros if crop != tuple(weight.shape[2:]) or not x.numel() else _empty
    grad = full(weight.shape, dtype=weight.dtype, device=weight.device)
    if not x.numel():
        return grad
    shape = _shape(x, crop)
    swap = _orientation('grad_weight', shape, (x, grad_output), None)
    x, grad_output, inner = _rows(x, swap), _rows(grad_output, swap), _centre(grad, crop, swap)
    if swap:
        shape = shape.swapped()

    def launch(tiles: WeightTiles) -> None:
        _weight_launch(shape, tiles, x, grad_output, inner)

    with _device(x):
        launch(triton_autotune.choose('grad_weight', shape, weight_tiles(shape), launch, x))
    return grad


def why_not(x: Tensor, weight: Tensor) -> str | None:
    """The reason why the kernels cannot run this call, or ``None``."""
    if not _has_triton():
        return 'triton is not installed'
    if x.dtype == torch.float64:
        return 'tensor cores multiply no float64 here; use float32 or a 16-bit dtype'
    if max(weight.shape[2:]) > MAX_KERNEL:
        return f'kernel edges must be at most {MAX_KERNEL}, got {weight.shape[2]} x {weight.shape[3]}'
    if x.shape[0] * max(x.shape[2:]) >= MAX_ROWS:
        return f'batch times height and batch times width must be below {MAX_ROWS}, got {tuple(x.shape)}'
    if _interpreted():
        if x.dtype == torch.bfloat16:
            return "Triton's interpreter computes bfloat16 wrongly; use float32 or float16 there"
        return None
    if x.device.type != 'cuda':
        return f'it needs CUDA tensors, got {x.device}'
    if torch.version.hip is not None:
        return 'it is written for NVIDIA GPUs, this PyTorch is built for AMD'
    capability = _capability(x.device.index)
    if capability < (8, 0):
        return f'it needs compute capability 8.0 or later, this GPU has {capability[0]}.{capability[1]}'
    return None


def why_rather_not(pass_name: str, x: Tensor, weight: Tensor) -> str | None:
    """The reason why PyTorch's own kernel is expected to be as fast for this pass, or ``None``.

    A prediction (see triton_tiles.py), not a limit: a call that forces the backend runs all the same.

    Args:
        pass_name: 'forward', 'grad_input' or 'grad_weight'.
        x: Input (N, C, H, W).
        weight: Kernels (C, 1, R, S).
    """
    if not x.numel():
        return 'the input is empty'
    if x.device.type == 'cpu':
        return "Triton's interpreter is for tests, which name the backend"
    shape = _shape(x, _crop(x, weight))
    ours = min(predicted_time(pass_name, shape), predicted_time(pass_name, shape.swapped(), copies=2)) + PYTHON_OVERHEAD
    theirs = pytorch_time(pass_name, _shape(x, tuple(weight.shape[2:])))
    if theirs > ours:
        return None
    return f"PyTorch's kernel is predicted to be as fast ({theirs:.0f} against {ours:.0f} microseconds)"


def _correlate(pass_name: str, x: Tensor, weight: Tensor, bias: Tensor | None, like: Tensor) -> Tensor:
    memory_format = output_format(like)
    if not x.numel():
        return _empty(x.shape, dtype=x.dtype, device=x.device).contiguous(memory_format=memory_format)
    crop = _crop(x, weight)
    shape = _shape(x, crop)
    swap = _orientation(pass_name, shape, (x,), memory_format)
    x, weight = _rows(x, swap), _centre(weight, crop, swap)
    if swap:
        shape = shape.swapped()
    y = _empty(x.shape, dtype=x.dtype, device=x.device)

    def launch(tiles: BandTiles) -> None:
        _band_launch(shape, tiles, x, weight, bias, y, flip=pass_name == 'grad_input')

    with _device(x):
        launch(triton_autotune.choose(pass_name, shape, band_tiles(shape), launch, x))
    return (y.mT if swap else y).contiguous(memory_format=memory_format)


def _band_launch(
    shape: Shape,
    tiles: BandTiles,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    flip: bool,
    table: Tensor | None = None,
) -> None:
    kernels = _kernels()
    length = tiles.chunks * tiles.bk + tiles.wt
    rows = shape.r + 2 * (tiles.g - 1)
    taps = _empty((shape.c, rows, shape.lanes, length), dtype=x.dtype, device=x.device)
    kernels.spread_taps_kernel[(shape.c * rows,)](
        weight,
        taps,
        rows,
        shape.r,
        shape.s,
        *(weight.stride(axis) for axis in (0, 2, 3)),
        tiles.wt + tiles.lead - shape.s // 2,
        FLIP=flip,
        G=tiles.g,
        LANES=shape.lanes,
        LENGTH=length,
        BLOCK=1 << (length - 1).bit_length(),
    )
    blocks = -(-shape.h // tiles.g)
    m_tiles, col_tiles = -(-blocks * shape.n // tiles.bm), -(-shape.w // tiles.wt)
    align = _alignment(shape, x, y)
    kernels.band_fwd_kernel[(shape.c * col_tiles * m_tiles,)](
        x,
        taps,
        y if bias is None else bias,
        y,
        y if table is None else table,
        shape.n,
        shape.h,
        x.shape[2],
        shape.w // align,
        shape.r,
        blocks,
        m_tiles,
        col_tiles,
        *_strides(x, align),
        *_strides(y, align),
        0 if bias is None else bias.stride(0),
        HAS_BIAS=bias is not None,
        TABLE=table is not None,
        ALIGN=align,
        WT=tiles.wt,
        G=tiles.g,
        BM=tiles.bm,
        BK=tiles.bk,
        LEAD=tiles.lead,
        CHUNKS=tiles.chunks,
        LANES=shape.lanes,
        PRECISION=_dot_precision(shape),
        num_warps=tiles.warps,
        # A load through the table waits for the table: the pipeline splits its stages between the two.
        num_stages=tiles.stages if table is None else 2 * tiles.stages - 1,
    )


def _weight_launch(
    shape: Shape,
    tiles: WeightTiles,
    x: Tensor,
    grad_output: Tensor,
    grad: Tensor,
    table: Tensor | None = None,
    edges: tuple[int, ...] = (),
) -> None:
    kernels = _kernels()
    groups = -(-(shape.r + tiles.g - 1) // tiles.rb)
    length = tiles.windows * tiles.bi
    parts = (shape.c, tiles.splits, tiles.chunks, groups * tiles.rb, tiles.g, length)
    part = _empty(parts, dtype=torch.float32, device=x.device)
    align = _alignment(shape, x, grad_output)
    kernels.band_dw_kernel[(shape.c * tiles.splits * tiles.chunks * groups,)](
        x,
        grad_output,
        part,
        part if table is None else table,
        shape.n,
        shape.h,
        x.shape[2],
        shape.w // align,
        shape.r,
        -(-shape.h // tiles.g),
        groups,
        tiles.chunks,
        tiles.splits,
        -(-shape.w // tiles.wt),
        *_strides(x, align),
        *_strides(grad_output, align),
        TABLE=table is not None,
        ALIGN=align,
        WT=tiles.wt,
        G=tiles.g,
        RB=tiles.rb,
        BI=tiles.bi,
        BM=tiles.bm,
        BN=tiles.bn,
        LEAD=tiles.lead,
        WINDOWS=tiles.windows,
        PRECISION=_dot_precision(shape),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    kernels.sum_dw_kernel[(shape.c * shape.r,)](
        part,
        grad,
        shape.r,
        shape.s,
        groups * tiles.rb,
        tiles.chunks,
        tiles.splits,
        *(grad.stride(axis) for axis in (0, 2, 3)),
        tiles.lead - shape.s // 2 + tiles.wt - 1,
        G=tiles.g,
        BI=tiles.bi,
        LENGTH=length,
        BLOCK=1 << (shape.s - 1).bit_length(),
        BINS=max(len(edges) - 1, 0),
        EDGES=edges,
    )


def _orientation(
    pass_name: str, shape: Shape, maps: tuple[Tensor, ...], memory_format: torch.memory_format | None
) -> bool:
    """Whether to exchange rows and columns: kernels higher than wide waste less that way, but copies cost too."""
    copies = sum(not _has_rows(x) for x in maps)
    copies_swapped = sum(not _has_rows(x.mT) for x in maps)
    if memory_format is not None:
        copies += memory_format == torch.channels_last
        copies_swapped += 1
    if shape.r <= shape.s and copies <= copies_swapped:
        return False
    swapped = predicted_time(pass_name, shape.swapped(), copies_swapped)
    return swapped < predicted_time(pass_name, shape, copies)


def _rows(x: Tensor, swap: bool) -> Tensor:
    x = x.mT if swap else x
    return x if _has_rows(x) else x.contiguous()


def _has_rows(x: Tensor) -> bool:
    """Whether the pixels of a row are adjacent. A batch or row stride of 0 (an expanded gradient) is fine."""
    return x.stride(3) == 1 or x.shape[3] == 1


def _crop(x: Tensor, weight: Tensor) -> tuple[int, int]:
    """Edges of the central part of the kernel that can meet the map: at most 2H-1 x 2W-1."""
    return min(weight.shape[2], 2 * x.shape[2] - 1), min(weight.shape[3], 2 * x.shape[3] - 1)


def _centre(weight: Tensor, crop: tuple[int, int], swap: bool) -> Tensor:
    top, left = ((weight.shape[2] - crop[0]) // 2, (weight.shape[3] - crop[1]) // 2)
    weight = weight[:, :, top : top + crop[0], left : left + crop[1]]
    return weight.mT if swap else weight


def _shape(x: Tensor, kernel: tuple[int, int]) -> Shape:
    return Shape(*x.shape, *kernel, precision=_precision(x))


def _precision(x: Tensor) -> str:
    """How products are formed. TF32 keeps 10 bits of float32's 23: it needs PyTorch's permission and the user's wish.

    PyTorch's switch alone is no wish: it is on by default, and PyTorch's own depthwise kernels ignore it and compute in
    float32. ``tf32x3`` recovers float32 from three TF32 products.
    """
    if x.dtype != torch.float32:
        return '16'
    wished = os.environ.get('MMLK_TRITON_TF32') == '1'
    return 'tf32' if wished and torch.backends.cudnn.conv.fp32_precision == 'tf32' else 'tf32x3'


def _dot_precision(shape: Shape) -> str:
    return 'tf32' if shape.precision == '16' else shape.precision


def _alignment(shape: Shape, *maps: Tensor) -> int:
    """Largest power of two, at most 16 bytes, that divides the width, every stride and every address, in elements."""
    sizes = [shape.w]
    for x in maps:
        sizes += [*_strides(x, 1), x.data_ptr() // x.element_size()]
    align = shape.lanes
    while any(size % align for size in sizes):
        align //= 2
    return align


def _strides(x: Tensor, align: int) -> tuple[int, int, int]:
    return tuple(x.stride(axis) // align for axis in range(3))


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def _device(x: Tensor):
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _interpreted() -> bool:
    return os.environ.get('TRITON_INTERPRET') == '1'


@cache
def _has_triton() -> bool:
    try:
        return importlib.util.find_spec('triton') is not None
    except ImportError:
        return False


@cache
def _capability(index: int | None) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


@cache
def _kernels():
    from mmlk.ops.depthwise_conv2d import triton_kernels

    return triton_kernels

"""Which tile sizes the Triton kernels run with, and what a call is predicted to cost.

Every number below is a prediction from data sheets and counting, for one H100: predicted, not yet measured. The model
counts the steps a kernel executes, clipping included, and takes the largest of the times for matrix products and
instructions, for operands from the L2 cache, for device memory and for the longest chain of one program. It ranks tile
sizes, decides when a kernel runs with rows and columns swapped, and sends calls that PyTorch does as fast to PyTorch.

Times are microseconds. Dimensions: N batch, C channels, H W map, R S kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

#: Data sheet of the H100 and counts in the machine code of compiled kernels; the shares are guesses.
MULTIPROCESSORS = 132
CLOCK = 1.7e3  # cycles per microsecond
MATRIX_RATE = {'16': 4281, 'tf32': 2138, 'tf32x3': 713}  # operations per cycle and multiprocessor
MATRIX_SHARE = 0.8
STEP_CYCLES = 300  # waiting per step, shared by the programs of one multiprocessor
STEP_LATENCY = 0.35
L2_RATE = 4.5e6  # bytes per microsecond
MEMORY_RATE = 3.0e6
REGISTERS = 65536
LAUNCH = 4.0
#: What PyTorch's own kernels reach, operations per microsecond: forward on the taps inside the map, both gradients on
#: all taps.
PYTORCH_RATE = {'forward': 8.4e6, 'grad_input': 4.8e6, 'grad_weight': 2.9e6}
#: Extra time per pass of our calls against PyTorch's: several launches from Python against one from C++.
PYTHON_OVERHEAD = 30.0

#: Shared memory one program may take, in bytes: two fit on a multiprocessor of an H100, one on a consumer card.
SHARED_MEMORY = 96 * 1024


class Shape(NamedTuple):
    """What tile sizes depend on. ``precision`` is '16' for the two half formats, else 'tf32' or 'tf32x3'."""

    n: int
    c: int
    h: int
    w: int
    r: int
    s: int
    precision: str

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return 2 if self.precision == '16' else 4

    @property
    def lanes(self) -> int:
        """Elements in 16 bytes."""
        return 16 // self.itemsize

    @property
    def align(self) -> int:
        """Elements that one instruction loads of a contiguous map: a power of two that divides the width."""
        return min(self.lanes, self.w & -self.w)

    def swapped(self) -> Shape:
        """The same call with rows and columns exchanged."""
        return self._replace(h=self.w, w=self.h, r=self.s, s=self.r)


class BandTiles(NamedTuple):
    """Tiles of the forward kernel: ``g`` rows of ``wt`` columns for ``bm`` (row block, image) pairs.

    A step takes ``bk`` input columns of one input row.
    ``lead`` is how far the first column chunk starts left of the output tile, ``chunks`` how many there are at most.
    """

    wt: int
    g: int
    bm: int
    bk: int
    lead: int
    chunks: int
    warps: int
    stages: int


class WeightTiles(NamedTuple):
    """Tiles of the weight gradient: ``rb`` input rows of ``bi`` columns against ``g`` rows of ``wt`` columns.

    A step takes ``bm`` pairs, ``bn`` images times ``bm // bn`` row blocks; ``splits`` programs share all pairs.
    """

    wt: int
    g: int
    rb: int
    bi: int
    bm: int
    bn: int
    lead: int
    chunks: int
    splits: int
    warps: int
    stages: int

    @property
    def windows(self) -> int:
        """Windows of ``bi`` that hold the bi + wt - 1 diagonals."""
        return _cdiv(self.bi + self.wt - 1, self.bi)


@lru_cache(maxsize=4096)
def band_tiles(shape: Shape) -> tuple[BandTiles, ...]:
    """Tiles of the forward kernel and of the input gradient, the fastest by prediction first."""
    return tuple(sorted(_band_candidates(shape), key=lambda tiles: _band_time(shape, tiles)))


@lru_cache(maxsize=4096)
def weight_tiles(shape: Shape) -> tuple[WeightTiles, ...]:
    """Tiles of the weight gradient, the fastest by prediction first."""
    return tuple(sorted(_weight_candidates(shape), key=lambda tiles: _weight_time(shape, tiles)))


@lru_cache(maxsize=4096)
def predicted_time(pass_name: str, shape: Shape, copies: int = 0) -> float:
    """Time of a pass with its best tiles and ``copies`` passes that rewrite one feature map, in microseconds."""
    if pass_name == 'grad_weight':
        time = _weight_time(shape, weight_tiles(shape)[0])
    else:
        time = _band_time(shape, band_tiles(shape)[0])
    return time + copies * (2 * shape.n * shape.c * shape.h * shape.w * shape.itemsize / MEMORY_RATE + LAUNCH)


@lru_cache(maxsize=4096)
def pytorch_time(pass_name: str, shape: Shape) -> float:
    """Time of PyTorch's own kernel for contiguous tensors, in microseconds."""
    if pass_name == 'forward':
        taps = _taps_inside(shape.h, shape.r) * _taps_inside(shape.w, shape.s)
    else:
        taps = shape.h * shape.r * shape.w * shape.s
    memory = 2 * shape.n * shape.c * shape.h * shape.w * shape.itemsize / MEMORY_RATE
    return max(2 * shape.n * shape.c * taps / PYTORCH_RATE[pass_name], memory) + LAUNCH


def _band_candidates(shape: Shape) -> Iterator[BandTiles]:
    half = shape.s // 2
    # At least four rows, if some lie outside the map: narrower products than 16 columns do not exist.
    heights = _powers(1, 16, max(shape.h, 4))
    for wt, g, bm, bk, warps in product(
        _powers(8, 64, max(shape.w, 16)), heights, (16, 32, 64, 128), (16, 32, 64), (4, 8)
    ):
        if not 16 <= wt * g <= 256 or bm > max(_power(shape.n * _cdiv(shape.h, g)), 16):
            continue
        stages = _stages(shape, bm, wt * g, bk, warps, shape.align)
        if stages:
            for lead in {_round_up(half, shape.lanes), _round_up(half, bk)}:
                yield BandTiles(wt, g, bm, bk, lead, _cdiv(lead + wt + half, bk), warps, stages)


def _band_time(shape: Shape, tiles: BandTiles) -> float:
    blocks = _cdiv(shape.h, tiles.g)
    pairs = blocks * shape.n
    m_tiles, col_tiles = _cdiv(pairs, tiles.bm), _cdiv(shape.w, tiles.wt)
    half = shape.r // 2
    # Every tile of a large call alike costs time to count: 32 samples are enough.
    sample = range(0, m_tiles, max(1, m_tiles // 32))
    rows = longest = 0
    for tile in sample:
        first = tile * tiles.bm // shape.n
        last = (min((tile + 1) * tiles.bm, pairs) - 1) // shape.n
        begin, end = max(half - last * tiles.g, 0), min(shape.r + tiles.g - 1, shape.h + half - first * tiles.g)
        rows += end - begin
        longest = max(longest, end - begin)
    rows = rows * m_tiles / len(sample)
    chunks = [
        min(tiles.chunks, _cdiv(shape.w - w0 + tiles.lead, tiles.bk)) - max(tiles.lead - w0, 0) // tiles.bk
        for w0 in range(0, shape.w, tiles.wt)
    ]
    steps = shape.c * rows * sum(chunks)
    columns = tiles.wt * tiles.g
    taps = shape.c * (shape.r + 2 * tiles.g) * shape.lanes * (tiles.chunks * tiles.bk + tiles.wt) * shape.itemsize
    return taps / L2_RATE + _time(
        shape,
        steps=steps,
        longest=longest * max(chunks),
        programs=shape.c * m_tiles * col_tiles,
        product=(tiles.bm, columns, tiles.bk),
        tiles=tiles,
        left=shape.align,
        instructions=(100, 6),
        memory=2 * shape.n * shape.c * shape.h * shape.w * shape.itemsize,
    )


def _weight_candidates(shape: Shape) -> Iterator[WeightTiles]:
    half = shape.s // 2
    lead, left = _round_up(half, shape.lanes), _transposed_align(shape)
    sizes = _powers(16, 64, shape.w), _powers(1, 8, shape.h), (1, 2, 4, 8), (16, 32, 64, 128), (32, 64), (4, 8)
    for wt, g, rb, bi, bm, warps in product(*sizes):
        if wt * g > 128 or not 64 <= rb * bi <= 128 or rb > _power(shape.r + g - 1):
            continue
        if bm > max(32, _power(shape.n * _cdiv(shape.h, g))):
            continue
        stages = _stages(shape, rb * bi, wt * g, bm, warps, left)
        if not stages:
            continue
        bn = min((1 << i for i in range(8) if 1 << i <= bm), key=lambda bn: _pair_tiles(shape, g, bm, bn))
        # Chunks that lie right of the map for every column tile would only add zeros.
        chunks = _cdiv(lead + min(wt + half, shape.w), bi)
        programs = shape.c * _cdiv(shape.r + g - 1, rb) * chunks
        longest = _pair_tiles(shape, g, bm, bn)[0] * _cdiv(shape.w, wt)
        splits = max(1, min(64, _cdiv(4 * MULTIPROCESSORS, programs), longest // 8))
        yield WeightTiles(wt, g, rb, bi, bm, bn, lead, chunks, splits, warps, stages)


def _weight_time(shape: Shape, tiles: WeightTiles) -> float:
    blocks, groups = _cdiv(shape.h, tiles.g), _cdiv(shape.r + tiles.g - 1, tiles.rb)
    col_tiles = _cdiv(shape.w, tiles.wt)
    half = shape.r // 2
    rows = longest = 0
    for r0 in range(0, groups * tiles.rb, tiles.rb):
        begin = max(half - r0 - tiles.rb + tiles.g, 0) // tiles.g
        end = min(blocks, max(shape.h + half - r0 + tiles.g - 1, 0) // tiles.g)
        steps = _cdiv(max(end - begin, 0), tiles.bm // tiles.bn) * _cdiv(shape.n, tiles.bn)
        rows += steps
        longest = max(longest, _cdiv(steps, tiles.splits))
    seen = []
    for chunk in range(tiles.chunks):
        begin = max(tiles.lead - (chunk + 1) * tiles.bi + tiles.wt, 0) // tiles.wt
        end = min(col_tiles, _cdiv(max(shape.w + tiles.lead - chunk * tiles.bi, 0), tiles.wt))
        seen.append(max(end - begin, 0))
    programs = shape.c * groups * tiles.chunks * tiles.splits
    left, right = tiles.rb * tiles.bi, tiles.g * tiles.wt
    parts = programs * tiles.rb * tiles.g * tiles.windows * tiles.bi * 4
    return 2 * parts / L2_RATE + _time(
        shape,
        steps=shape.c * rows * sum(seen),
        longest=longest * max(seen),
        programs=programs,
        product=(left, right, tiles.bm),
        tiles=tiles,
        left=_transposed_align(shape),
        instructions=(130, 10),
        memory=2 * shape.n * shape.c * shape.h * shape.w * shape.itemsize,
    )


def _time(
    shape: Shape,
    *,
    steps: float,
    longest: int,
    programs: int,
    product: tuple[int, int, int],
    tiles: BandTiles | WeightTiles,
    left: int,
    instructions: tuple[int, int],
    memory: int,
) -> float:
    """Time of one kernel.

    Args:
        shape: The call.
        steps: Steps of all programs together.
        longest: Steps of the longest program.
        programs: Number of programs.
        product: Rows, columns and depth of the matrix product of one step.
        tiles: Tiles, for warps and stages.
        left: Elements per load of the left operand.
        instructions: Instructions per step and thread, and per load.
        memory: Bytes that have to pass device memory.
    """
    rows, columns, depth = product
    # Tiles of fewer than 64 rows take an older instruction; fewer than 64 columns wait for the left operand.
    executed = 2 * (rows * max(columns, 64) if rows >= 64 else rows * columns / 0.6) * depth
    matrix = executed / MATRIX_RATE[shape.precision] / MATRIX_SHARE
    threads = 32 * tiles.warps
    loaded = (rows + columns) * depth
    loads = (rows / left + columns / shape.align) * depth / threads
    issued = instructions[0] + instructions[1] * loads
    if shape.precision == 'tf32x3':
        issued += 3 * rows * columns / threads + 5 * loaded / threads
    issue = issued * tiles.warps / 4
    resident = _resident(shape, product, tiles.warps, tiles.stages, left)
    cycles = max(matrix, issue) + 0.3 * min(matrix, issue) + STEP_CYCLES / resident
    waves = _cdiv(programs, MULTIPROCESSORS * resident)
    busy = programs / (waves * MULTIPROCESSORS * resident)
    compute = steps * cycles / MULTIPROCESSORS / CLOCK
    operands = steps * loaded * shape.itemsize / L2_RATE
    return max(max(compute, operands) / busy, memory / MEMORY_RATE, waves * longest * STEP_LATENCY) + LAUNCH


def _stages(shape: Shape, rows: int, columns: int, depth: int, warps: int, left: int) -> int:
    """Depth of the software pipeline that fits into shared memory; 0 for tiles that do not fit a multiprocessor."""
    if _registers(shape, rows, columns, depth, warps, left) > 236 or (warps == 8 and rows * columns < 64 * 64):
        return 0
    memory = SHARED_MEMORY - _split_bytes(shape, depth * columns)
    stages = min(4, memory // ((rows + columns) * depth * shape.itemsize))
    return stages if stages >= 2 else 0


def _resident(shape: Shape, product: tuple[int, int, int], warps: int, stages: int, left: int) -> int:
    """Programs that share one multiprocessor."""
    rows, columns, depth = product
    registers = REGISTERS // (32 * warps * min(_registers(shape, rows, columns, depth, warps, left), 255))
    memory = (rows + columns) * depth * shape.itemsize * stages + _split_bytes(shape, depth * columns)
    return max(1, min(registers, 2 * SHARED_MEMORY // memory, 8))


def _registers(shape: Shape, rows: int, columns: int, depth: int, warps: int, left: int) -> int:
    """Registers per thread, fitted to compiled kernels: the sums, for tf32x3 twice, an address per load or store."""
    threads = 32 * warps
    sums = rows * columns / threads
    loads = (rows / left + columns / shape.align) * depth / threads
    loop = (2 * sums + 70 if shape.precision == 'tf32x3' else sums + 45) + 2 * loads
    stores = sums + 2 * sums / shape.align + 40
    return round(max(loop, stores))


def _transposed_align(shape: Shape) -> int:
    """Elements per load of the weight gradient's left operand: float32 is transposed on its way, element by element."""
    return shape.align if shape.itemsize == 2 else 1


def _split_bytes(shape: Shape, elements: int) -> int:
    # tf32x3 splits the right operand into a large and a small part and puts both back into shared memory.
    return 2 * 4 * elements if shape.precision == 'tf32x3' else 0


def _pair_tiles(shape: Shape, g: int, bm: int, bn: int) -> tuple[int, int]:
    """Steps over all (row block, image) pairs; among equals many row blocks of few images are clipped worse."""
    return _cdiv(_cdiv(shape.h, g), bm // bn) * _cdiv(shape.n, bn), bm // bn


def _taps_inside(size: int, kernel: int) -> int:
    return sum(max(0, size - abs(tap - kernel // 2)) for tap in range(kernel))


def _powers(low: int, high: int, size: int) -> list[int]:
    """Powers of two from ``low`` to ``high``, none above the first that holds ``size``."""
    return [low << i for i in range(8) if low << i <= min(high, max(low, _power(size)))]


def _power(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def _round_up(size: int, multiple: int) -> int:
    return _cdiv(size, multiple) * multiple


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)

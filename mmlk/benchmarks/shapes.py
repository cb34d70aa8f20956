"""The shapes on which the op is measured.

Dimensions: N batch, C channels, H W input, R S kernel; stride 1, output the size of the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mmlk.errors import UsageError

#: Where a batch is larger, the CPU is measured with this one: F.conv2d would need a minute per call.
CPU_BATCH = 2


@dataclass(frozen=True)
class Shape:
    """One depthwise convolution.

    Attributes:
        name: Where it occurs.
        n: Batch.
        c: Channels.
        h: Height of the map.
        w: Width of the map.
        r: Height of the kernel.
        s: Width of the kernel.
        quick: Measured by ``--quick`` as well.
        grid: Taps that share a parameter, per group along both axes; empty: each tap has its own.
    """

    name: str
    n: int
    c: int
    h: int
    w: int
    r: int
    s: int
    quick: bool = False
    grid: tuple[int, ...] = ()

    @property
    def size(self) -> tuple[int, int, int, int, int, int]:
        """(N, C, H, W, R, S)."""
        return self.n, self.c, self.h, self.w, self.r, self.s

    @property
    def op(self) -> str:
        """Key of :data:`TABLES`."""
        return 'peripheral' if self.grid else 'depthwise'

    @property
    def label(self) -> str:
        """Such as ``N2-C128-H56xW56-K31x31``."""
        return f'N{self.n}-C{self.c}-H{self.h}xW{self.w}-K{self.r}x{self.s}'

    def __str__(self) -> str:
        return f'{self.name} {self.label}'


def _square(name: str, n: int, c: int, edge: int, k: int, quick: bool = False) -> Shape:
    return Shape(name, n, c, edge, edge, k, k, quick)


#: Large-kernel layers of published networks at their training sizes (stage s1 to s4, crop 224 or 512).
LAYERS = (
    _square('RepLK-31B s1 @224', 64, 128, 56, 31, quick=True),
    _square('RepLK-31B s2 @224', 64, 256, 28, 29),
    _square('RepLK-31B s3 @224', 64, 512, 14, 27, quick=True),
    _square('RepLK-31B s4 @224', 64, 1024, 7, 13, quick=True),
    _square('RepLK-31B s1 @512', 8, 128, 128, 31),
    _square('RepLK-31B s2 @512', 8, 256, 64, 29),
    _square('RepLK-31B s3 @512', 8, 512, 32, 27),
    _square('RepLK-31B s4 @512', 8, 1024, 16, 13),
    _square('PeLK-T s1 @224', 64, 48, 56, 51),
    _square('PeLK-T s1 @512', 8, 48, 128, 51),
    _square('PeLK-T s2 @512', 8, 96, 64, 49),
    _square('PeLK-T s3 @512', 8, 192, 32, 47),
    _square('PeLK-101-T s1 @512', 8, 48, 128, 101),
    _square('PeLK-101-T s2 @512', 8, 96, 64, 69),
)

OP_TABLE_KERNELS = (3, 5, 7, 9, 13, 17, 21, 27, 29, 31)

#: The table of RepLKNet (arXiv 2203.06717, Table 1).
OP_TABLE = tuple(
    _square('op table', 64, 384, edge, k, quick=edge == 16 and k in (3, 7, 31))
    for edge in (16, 32, 64)
    for k in OP_TABLE_KERNELS
)

#: The strips of SLaK on the maps of the op table.
STRIPES = tuple(
    Shape('stripe', 64, 384, edge, edge, r, s, quick=edge == 16) for edge in (16, 32, 64) for r, s in ((51, 5), (5, 51))
)

#: The shapes that the goals on two CPU cores name.
HEADLINE = (
    _square('headline', 2, 128, 56, 31, quick=True),
    _square('headline', 2, 128, 32, 51, quick=True),
    _square('headline', 2, 64, 128, 51),
    _square('headline', 2, 30, 128, 101),
)

SHAPES = LAYERS + OP_TABLE + STRIPES + HEADLINE

#: Sharing grids of PeLK by the edge of its kernels; those of its two largest have a wider centre.
GRIDS = {
    47: (7, 8, 4, 2, 1, 1, 1, 1, 1, 2, 4, 8, 7),
    49: (8, 8, 4, 2, 1, 1, 1, 1, 1, 2, 4, 8, 8),
    51: (9, 8, 4, 2, 1, 1, 1, 1, 1, 2, 4, 8, 9),
    69: (17, 8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 17),
    101: (17, 16, 8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 17),
}

#: The layers of PeLK with their sharing grids.
PERIPHERAL = tuple(
    replace(shape, grid=GRIDS[shape.r], quick=shape.name in ('PeLK-T s1 @224', 'PeLK-T s3 @512'))
    for shape in LAYERS
    if shape.name.startswith('PeLK')
)

#: By op.
TABLES = {'depthwise': SHAPES, 'peripheral': PERIPHERAL}


def select_shapes(
    device: str,
    quick: bool = False,
    batch: int | None = None,
    filters: str | None = None,
    op: str = 'depthwise',
) -> list[Shape]:
    """The shapes of one run, each once.

    Args:
        device: ``'cpu'`` or ``'cuda'``; on the CPU a larger batch becomes :data:`CPU_BATCH`.
        quick: Only the few marked as quick, unless ``filters`` says which.
        batch: Batch of every shape instead.
        filters: Comma-separated: parts of a name or label, or sizes to measure instead of the table: ``NxCxHxWxK`` or
            ``NxCxHxWxRxS``; for ``'peripheral'`` K is an edge of :data:`GRIDS` or the groups, as in ``2x8x9x9x2+1+2``.
        op: Key of :data:`TABLES`.

    Raises:
        UsageError: Nothing is left, or a size cannot be convolved.
    """
    chosen = [shape for shape in TABLES[op] if filters is not None or not quick or shape.quick]
    if filters is not None:
        chosen = _filtered(chosen, [part.strip() for part in filters.split(',') if part.strip()], op)
    if batch is not None:
        chosen = [replace(shape, n=batch) for shape in chosen]
    elif device == 'cpu':
        chosen = [replace(shape, n=min(shape.n, CPU_BATCH)) for shape in chosen]
    unique: dict[tuple, Shape] = {}
    for shape in chosen:
        key = shape.size, shape.grid
        known = unique.get(key)
        if known is None:
            unique[key] = shape
        elif shape.name not in known.name.split(' = '):
            unique[key] = replace(known, name=f'{known.name} = {shape.name}')
    return list(unique.values())


def _filtered(shapes: Iterable[Shape], parts: list[str], op: str) -> list[Shape]:
    shapes, found = list(shapes), []
    for part in parts:
        if re.fullmatch(r'\d+(x\d+){3}x\d+([x+]\d+)*', part):
            found.append(_with_grid(part) if op == 'peripheral' else _from_size(part))
            continue
        matches = [shape for shape in shapes if part.lower() in str(shape).lower()]
        if not matches:
            raise UsageError(
                f'--shapes {part!r} is part of no shape; --list prints them, and a size such as 2x128x56x56x31 '
                '(N C H W K) measures another one'
            )
        found += [shape for shape in matches if shape not in found]
    if not found:
        raise UsageError("--shapes is empty; give a part of a name such as 'PeLK', or a size such as 2x128x56x56x31")
    return found


def _from_size(text: str) -> Shape:
    size = [int(edge) for edge in re.split('[x+]', text)]
    shape = Shape('given', *size[:5], size[-1])
    if '+' in text or len(size) > 6 or min(size) < 1 or shape.r % 2 == 0 or shape.s % 2 == 0:
        raise UsageError(f'--shapes {text} must have positive edges and an odd kernel, as NxCxHxWxK or NxCxHxWxRxS')
    return shape


def _with_grid(text: str) -> Shape:
    *edges, kernel = text.split('x')
    size, grid = [int(edge) for edge in edges], tuple(int(group) for group in kernel.split('+'))
    grid = GRIDS.get(grid[0], grid) if len(grid) == 1 else grid
    if len(size) != 4 or len(grid) == 1 or min(*size, *grid) < 1 or sum(grid) % 2 == 0:
        raise UsageError(
            f'--shapes {text} must have positive edges and a sharing grid, as NxCxHxWxK with K one of '
            f'{", ".join(map(str, GRIDS))}, or with groups that add up to an odd number, such as 2x8x9x9x2+1+2'
        )
    return Shape('given', *size, sum(grid), sum(grid), grid=grid)

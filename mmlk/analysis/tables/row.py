"""A row of a published table, and how its figures compare with ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmlk.analysis.complexity import Complexity

#: Largest relative difference to a published figure that needs no stated cause.
BOUNDS = {'params': 0.02, 'flops': 0.015}

#: Images (H, W) that FLOPs of dense tasks are counted for: ADE20K with weights of ImageNet-1K and of larger sets, COCO.
ADE20K = (512, 2048)
ADE20K_LARGE = (640, 2560)
COCO = (800, 1280)

# Causes that several tables share.
CUT = 'printed cut off, not rounded'
DENSITY = 'the weights left after training are counted, which are not 60 % in every layer'
ROUNDED = 'ours rounds to the printed figure'


@dataclass(frozen=True)
class Counting:
    """How the authors of a table count a network.

    Attributes:
        density: Share of the backbone's weights that is counted; the papers with dynamic sparsity leave out the zeros.
        merged_params: Count parameters of the merged network, else of the train form.
        auxiliary_head: Whether an auxiliary head counts in parameters; it never does in multiply-accumulates.
        shiftwise: Count small kernels with padded outputs instead of strips, see
            :mod:`mmlk.analysis.shiftwise_complexity`.
    """

    density: float = 1.0
    merged_params: bool = False
    auxiliary_head: bool = True
    shiftwise: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a published table.

    Attributes:
        network: Name as the table has it.
        config: Folder and name of the config, such as ``'ade20k/upernet_pelk_t'``.
        source: Where the figures are printed: paper and table, or repository.
        metrics: Metric -> value (percent) as printed.
        input_size: (H, W) in pixels of the image that FLOPs are counted for.
        counting: Rule of the table's authors.
        params: Parameters in millions as printed, ``None`` if they are not.
        flops: Multiply-accumulates in billions as printed, ``None`` if they are not.
        causes: ``'params'`` or ``'flops'`` -> why ours is another figure.
        bounds: Largest relative differences that need no cause.
    """

    network: str
    config: str
    source: str
    metrics: Mapping[str, str]
    input_size: tuple[int, int]
    counting: Counting
    params: str | None = None
    flops: str | None = None
    causes: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=BOUNDS.copy)

    @property
    def dataset(self) -> str:
        return self.config.partition('/')[0]

    @property
    def path(self) -> str:
        """The config, relative to the checkout."""
        return f'configs/{self.config}.py'

    @property
    def printed(self) -> dict[str, str | None]:
        """The sizes as printed."""
        return dict(params=self.params, flops=self.flops)


@dataclass(frozen=True)
class Comparison:
    """One figure of a row beside ours.

    Attributes:
        printed: The published figure as printed.
        ours: Our figure in the same unit.
        bound: Largest relative difference that needs no cause.
        cause: Why ours differs, where that is known.
    """

    printed: str
    ours: float
    bound: float
    cause: str | None

    @property
    def relative(self) -> float:
        """Our figure relative to the published one, minus 1."""
        return self.ours / float(self.printed) - 1

    @property
    def same_digits(self) -> bool:
        """Whether ours, rounded to as many digits as are printed, is the published figure."""
        return f'{self.ours:.{len(self.printed.partition(".")[2])}f}' == self.printed

    @property
    def why(self) -> str | None:
        """The stated cause; where there is none and the difference is beyond the bound, rounding or nothing."""
        if self.cause is not None or abs(self.relative) <= self.bound:
            return self.cause
        return ROUNDED if self.same_digits else None

    @property
    def explained(self) -> bool:
        """Whether the difference is within the bound or has a cause."""
        return abs(self.relative) <= self.bound or self.why is not None


def compare(row: Row, ours: Complexity) -> dict[str, Comparison]:
    """Our figures beside those of a row, ``'params'`` and ``'flops'`` as far as they are published."""
    found = figures(ours)
    return {
        name: Comparison(printed, found[name], row.bounds[name], row.causes.get(name))
        for name, printed in row.printed.items()
        if printed is not None
    }


def figures(ours: Complexity) -> dict[str, float]:
    """Parameters in millions and multiply-accumulates in billions, named as in a row."""
    return dict(params=ours.params / 1e6, flops=ours.macs / 1e9)


def make_rows(
    prefix: str,
    source: str,
    metrics: str,
    counting: Counting,
    lines: Sequence[tuple],
    bounds: Mapping[str, float] = BOUNDS,
) -> list[Row]:
    """The rows of one table.

    Args:
        prefix: What the names of all configs begin with, such as ``'coco/cascade_mask_rcnn_'``.
        source: Where the table is printed.
        metrics: Names of the metrics, separated by '/'.
        counting: Rule of the table's authors.
        lines: Per row the network, the rest of the config's name, the input size (one number for a square), the values
            of the metrics separated by '/', params, FLOPs, and, where a figure is not ours, the causes.
        bounds: Largest relative differences that need no cause.
    """
    rows = []
    for network, config, size, values, params, flops, *causes in lines:
        size = (size, size) if isinstance(size, int) else size
        named = dict(zip(metrics.split('/'), values.split('/'), strict=True))
        rows.append(Row(network, prefix + config, source, named, size, counting, params, flops, *causes, bounds=bounds))
    return rows

"""Tables of published figures beside ours, one per data set, and the page ``docs/model_zoo.md``."""

from __future__ import annotations

from collections.abc import Sequence

from mmlk.analysis.tables import DATASETS, METRICS, UNPUBLISHED
from mmlk.cli.grid import Grid
from mmlk.cli.tables import Line

UNKNOWN = 'beyond the bound, and no cause is known'

TITLES = {'imagenet': 'ImageNet-1K', 'ade20k': 'ADE20K', 'cityscapes': 'Cityscapes', 'coco': 'COCO'}

HEADER = """\
# Model zoo

Every row of the papers' tables for a network of this package, with its config. `python tools/table.py --write-docs`
writes this page; a test compares it with `mmlk/analysis/tables`.

**Published** figures are those of the source in the last column, as printed: metrics in percent, parameters in
millions, FLOPs in billions of multiply-accumulates. **Ours** are counted from the config by the rule of the row's
authors. They say that the network is the published one, not what it reaches: none of this page is trained here yet.
`python tools/table.py --measured work_dirs` adds the metrics of your own tests, and
[reproducing.md](reproducing.md) says how rows are trained.

**Rules.** Multiply-accumulates of the convolution and linear layers of the merged network. Segmentors: at 2048 x 512
where the backbone was pretrained on ImageNet-1K, 2560 x 640 after larger pretraining (UniRepLKNet-S also at 2048 x
512), 2048 x 1024 on Cityscapes; the auxiliary head does no work. Detectors: at 1280 x 800, 1000 regions for each box
head and 100 for each mask head. PeLK and SLaK count 60 % of the backbone (40 % sparsity). RepLKNet and UniRepLKNet
count the parameters of the merged backbone and leave out those of the auxiliary head. SW counts every small kernel
once, on its padded output, and no shifts.

A config stands in several rows where several sources print figures. Swin and ConvNeXt, with which the tables compare,
are no networks of this package and are left out.
"""


class Notes:
    """Causes, each with a number."""

    def __init__(self) -> None:
        self.causes: list[str] = []

    def mark(self, cause: str | None) -> str:
        """A reference to a cause, empty for ``None``."""
        if cause is None:
            return ''
        if cause not in self.causes:
            self.causes.append(cause)
        return f' ({self.causes.index(cause) + 1})'

    def lines(self) -> list[str]:
        return [f'({number}) {cause}' for number, cause in enumerate(self.causes, start=1)]


def make_grids(lines: Sequence[Line], links: bool = False) -> list[Grid]:
    """One table per data set that has lines.

    Args:
        lines: Rows with what is known about them.
        links: Write the names of configs as Markdown links, relative to ``docs/``.
    """
    grids = []
    for dataset in DATASETS:
        chosen = [line for line in lines if line.row.dataset == dataset]
        if chosen:
            notes, columns = Notes(), _columns(chosen)
            rows = [_cells(line, columns, notes, links) for line in chosen]
            grids.append(Grid(TITLES[dataset], columns, rows, notes.lines()))
    return grids


def make_page(lines: Sequence[Line]) -> str:
    """The model zoo as Markdown."""
    unpublished = '\n'.join(f'- {_link(name)}: {reason}' for name, reason in UNPUBLISHED.items())
    tables = [grid.markdown() for grid in make_grids(lines, links=True)]
    return '\n'.join([HEADER, *tables, f'## Configs without a published figure\n\n{unpublished}\n'])


def _columns(lines: Sequence[Line]) -> list[str]:
    metrics = METRICS[lines[0].row.dataset]
    measured = [f'{name}, measured' for name in metrics] if any(line.measured for line in lines) else []
    sizes = [f'{size}, {part}' for size in ('params (M)', 'FLOPs (G)') for part in ('published', 'ours', 'difference')]
    return ['config', 'network', *metrics, *measured, *sizes, 'source']


def _cells(line: Line, columns: Sequence[str], notes: Notes, links: bool) -> list[str]:
    row = line.row
    name = _link(row.config) if links else row.config.partition('/')[2]
    cells = {'config': name, 'network': row.network, 'source': row.source, **row.metrics}
    if line.measured is not None:
        cells |= {f'{metric}, measured': f'{value:.2f}' for metric, value in line.measured.metrics.items()}
    for size, head in (('params', 'params (M)'), ('flops', 'FLOPs (G)')):
        printed = row.printed[size]
        if printed is not None:
            cells[f'{head}, published'] = printed
        if line.ours is not None:
            # One digit more than is printed, where less than two are.
            printed_digits = len((printed or '').partition('.')[2])
            digits = max(printed_digits, min(printed_digits + 1, 2))
            cells[f'{head}, ours'] = f'{line.figures[size]:.{digits}f}'
        comparison = line.comparisons.get(size)
        if comparison is not None:
            why = comparison.why if comparison.explained else UNKNOWN
            # Without -0.0.
            percent = round(100 * comparison.relative, 1) + 0.0
            cells[f'{head}, difference'] = f'{percent:+.1f} %{notes.mark(why)}'
    return [cells.get(column, '-') for column in columns]


def _link(config: str) -> str:
    return f'[{config.partition("/")[2]}](../configs/{config}.py)'

"""What came out of a run, read from its work directory."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmlk.errors import UsageError

#: What the names of metrics begin with that are fractions; those of the other hosts are percentages.
FRACTIONS = ('coco/',)


@dataclass(frozen=True)
class RunSummary:
    """The end of a training run.

    Attributes:
        iterations: Iterations done.
        loss: Last logged loss, ``None`` if none was logged.
        metrics: Last validation, name -> value as the evaluator gave it (percent; fractions for mmdet).
        checkpoint: Last checkpoint, ``None`` if none was written.
        log: Text log of the last start.
    """

    iterations: int
    loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: Path | None = None
    log: Path | None = None


def read_summary(work_dir: str | Path) -> RunSummary:
    """Summarise the newest run in a work directory of MMEngine.

    Raises:
        UsageError: No run has logged anything there.
    """
    work_dir = Path(work_dir)
    runs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not runs:
        raise UsageError(f'expected the work directory of a training run, found no logged run in {work_dir}')
    records = [json.loads(line) for line in runs[-1].read_text().splitlines() if line.strip()]
    steps = [record for record in records if 'loss' in record]
    # Hooks log in between: the density of every layer, for one.
    validations = [record for record in records if not {'loss', 'density'} & record.keys()]
    metrics = {}
    if validations:
        metrics = {key: value for key, value in validations[-1].items() if key not in ('step', 'time', 'data_time')}
    # Where the training loop counts epochs, so do the records of validations; a log may lack the last iterations.
    counts = [int(record.get('step', 0)) for record in (*steps[-1:], *validations[-1:])]
    last = work_dir / 'last_checkpoint'
    # MMEngine writes the path as it was given to the run, which may be relative to another directory.
    checkpoint = work_dir / Path(last.read_text().strip()).name if last.is_file() else None
    folder = runs[-1].parents[1]
    log = folder / f'{folder.name}.log'
    return RunSummary(
        iterations=max(counts, default=0),
        loss=steps[-1]['loss'] if steps else None,
        metrics=metrics,
        checkpoint=checkpoint,
        log=log if log.is_file() else None,
    )


def run_rows(work_dir: str | Path) -> list[tuple[str, str]]:
    """The end of a run as (what, value) rows, also of one that was to log nothing."""
    try:
        return summary_rows(read_summary(work_dir))
    except UsageError:
        return [('work directory', str(work_dir)), ('log', 'none, the config has no logger hook')]


def summary_rows(summary: RunSummary) -> list[tuple[str, str]]:
    """The summary as (what, value) rows."""
    rows = [('iterations', str(summary.iterations))]
    if summary.loss is not None:
        rows.append(('final loss', f'{summary.loss:.4f}'))
    rows += [(name, _metric(name, value)) for name, value in summary.metrics.items() if isinstance(value, (int, float))]
    rows += [('checkpoint', str(summary.checkpoint or 'none')), ('log', str(summary.log or 'none'))]
    return rows


def _metric(name: str, value: float) -> str:
    """A metric as text, fractions in percent."""
    if not name.startswith(FRACTIONS):
        return f'{value:.2f}'
    # pycocotools gives -1 for an average over no object, such as of a size that the data does not have.
    return f'{100 * value:.1f} %' if value >= 0 else 'nothing to evaluate'


def print_table(title: str, rows: list[tuple[str, str]]) -> None:
    """Print rows as a two-column table; paths are never cut."""
    table = Table(title=title, show_header=False, title_justify='left')
    table.add_column(style='bold', no_wrap=True)
    table.add_column(overflow='fold')
    for name, value in rows:
        table.add_row(name, value)
    console_of_width(max(len(name) for name, _ in rows) + max(len(value) for _, value in rows) + 8).print(table)


def console_of_width(needed: int) -> Console:
    """A console for a table of ``needed`` characters."""
    # In a log or a pipe the width is unknown and 80 would break the paths.
    return Console(width=None if sys.stdout.isatty() else max(80, needed))

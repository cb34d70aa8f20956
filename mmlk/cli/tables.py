"""Lines of ``tools/table.py``: published figures, ours counted now, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmengine.config import Config

from mmlk.analysis.complexity import Complexity
from mmlk.analysis.config_complexity import config_complexity
from mmlk.analysis.tables import DATASETS, ROWS, Comparison, Row, compare, rows_of
from mmlk.analysis.tables.row import figures
from mmlk.cli.measured import Measured
from mmlk.errors import UsageError


@dataclass(frozen=True)
class Line:
    """A row with what is known about it here.

    Attributes:
        row: The published row.
        ours: Size counted here, ``None`` if it was not.
        measured: Results of tests here, ``None`` if there are none.
    """

    row: Row
    ours: Complexity | None = None
    measured: Measured | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Our sizes in millions and billions, empty if they were not counted."""
        return {} if self.ours is None else figures(self.ours)

    @property
    def comparisons(self) -> dict[str, Comparison]:
        return {} if self.ours is None else compare(self.row, self.ours)

    def as_json(self) -> dict:
        """Everything about the line, for a JSON file."""
        row = self.row
        comparisons = self.comparisons
        return dict(
            network=row.network,
            config=row.path,
            source=row.source,
            metrics={name: float(value) for name, value in row.metrics.items()},
            input_size=list(row.input_size),
            published={name: None if value is None else float(value) for name, value in row.printed.items()},
            ours=self.figures or None,
            difference={name: one.relative for name, one in comparisons.items()},
            explained={name: one.explained for name, one in comparisons.items()},
            causes=dict(row.causes),
            measured=None if self.measured is None else asdict(self.measured),
        )


def select_rows(dataset: str | None, configs: Sequence[str] = ()) -> list[Row]:
    """The rows of a data set and of some configs; all without arguments.

    Args:
        dataset: One of the tables' data sets.
        configs: Paths or names of configs.

    Raises:
        UsageError: There is no such data set, or no row for a config.
    """
    if dataset is not None and dataset not in DATASETS:
        raise UsageError(f'--dataset must be one of {", ".join((*DATASETS, "op"))}, got {dataset}')
    rows = list(ROWS) if dataset is None else rows_of(dataset)
    if not configs:
        return rows
    chosen = []
    for config in configs:
        found = [row for row in rows if Path(row.config).name == Path(config).stem]
        if not found:
            raise UsageError(
                f'expected a config with a published figure{f" on {dataset}" if dataset else ""}, got {config}; '
                'without configs, all rows are shown'
            )
        chosen += found
    return chosen


def count_lines(
    rows: Iterable[Row], root: Path, measured: Mapping[str, Measured], advance: Callable[[], None] = lambda: None
) -> list[Line]:
    """Count the networks of rows, each once.

    Args:
        rows: Published rows.
        root: Folder of ``configs/``.
        measured: Name of a config -> its results.
        advance: Called after every row.

    Raises:
        FileNotFoundError: A config of a row does not exist.
    """
    counted: dict[tuple, Complexity] = {}
    lines = []
    for row in rows:
        key = (row.config, row.input_size, row.counting)
        if key not in counted:
            counted[key] = config_complexity(Config.fromfile(root / row.path), row.input_size, row.counting)
        lines.append(Line(row, counted[key], measured.get(row.config)))
        advance()
    return lines


def json_text(content: object) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + '\n'

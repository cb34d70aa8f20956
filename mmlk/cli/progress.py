"""A progress bar with the time left."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def make_progress() -> Progress:
    """A bar on the standard error stream, which vanishes at the end; the standard output keeps only results."""
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
    )
    # Steps take between milliseconds and minutes: the speed is that of the last ten minutes.
    return Progress(*columns, console=Console(file=sys.stderr), transient=True, speed_estimate_period=600)

"""The run behind ``tools/benchmark_shrink.py``: what is asked for, progress, table, result file."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mmlk.benchmarks.environment import describe_run
from mmlk.benchmarks.results import write_results
from mmlk.benchmarks.shrink import CASES, Case, measure
from mmlk.benchmarks.timing import make_clock
from mmlk.cli.benchmark_ops import check_json, print_machine
from mmlk.cli.progress import make_progress
from mmlk.cli.summary import console_of_width
from mmlk.errors import UsageError

#: The status of a run in which a result was wrong.
WRONG_STATUS = 1


def list_cases() -> None:
    """Print the cases, one a line."""
    for case in CASES:
        print(case)


def select_cases(filters: str | None) -> list[Case]:
    """Cases whose name contains one of the comma-separated parts; ``None`` takes all.

    Raises:
        UsageError: There is none.
    """
    if filters is None:
        return list(CASES)
    # A part may hold ', ' itself, as the names do.
    parts = [part.strip().lower() for part in filters.split(';') if part.strip()]
    chosen = [case for case in CASES if any(part in str(case).lower() for part in parts)]
    if not chosen:
        raise UsageError(f'--cases {filters!r} is part of no case; --list prints them')
    return chosen


def run(args: argparse.Namespace) -> int:
    """Measure what the arguments ask for; the exit status.

    Raises:
        UsageError: They cannot be measured.
    """
    check_json(args.json)
    cases = select_cases(args.cases)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    description = describe_run('cpu')
    print_machine(description)
    print(f'backbones of random weights, batch {args.batch_size}, {args.image_size[0]} x {args.image_size[1]}, float32')
    start, clock, rows = time.perf_counter(), make_clock('cpu'), []
    with make_progress() as progress:
        task = progress.add_task('', total=len(cases))
        for case in cases:
            progress.update(task, description=str(case))
            row, report = measure(case, args.image_size, args.batch_size, clock, args.seconds, args.depths)
            rows.append(row)
            progress.advance(task)
            if args.verbose:
                progress.console.print(f'{case}\n{report}', highlight=False, soft_wrap=True)
    print_rows(rows)
    wrong = [row['case'] for row in rows if row['error'] > row['tolerance']]
    for case in wrong:
        print(f'error: {case}: the output changed by more than rounding', file=sys.stderr)
    if wrong:
        return WRONG_STATUS
    if args.json is not None:
        results = {
            'kind': 'shrink',
            'run': description,
            'settings': {
                'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                'batch_size': args.batch_size,
                'image_size': list(args.image_size),
                'depths': None if args.depths is None else list(args.depths),
                'seconds': args.seconds,
                'seconds_total': time.perf_counter() - start,
            },
            'rows': rows,
        }
        print(f'written to {write_results(results, args.json)}')
    return 0


def print_rows(rows: list[dict]) -> None:
    """Print the rows as a table, times in ms."""
    table = Table(title='milliseconds of one forward pass, before -> after cutting; medians', title_justify='left')
    table.add_column('case', no_wrap=True)
    for name in (
        'layers cut',
        'weights (k)',
        'not zero (k)',
        'predicted',
        'mixers',
        'gain',
        'network',
        'gain',
        'error',
    ):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        weights = [f'{row["weights"][name] / 1e3:.0f}' for name in ('before', 'after')]
        cells = [f'{row["shrunk"]} of {row["layers"]}', ' -> '.join(weights), f'{row["nonzero"] / 1e3:.0f}']
        cells.append(_arrow(row['predicted_ms']['before'], row['predicted_ms']['after']))
        for name in ('mixers', 'network_forward'):
            times = [row[name][when]['median_ms'] for when in ('before', 'after')]
            cells += [_arrow(*times), f'{times[0] / times[1]:.2f}x']
        table.add_row(row['case'], *cells, f'{row["error"]:.0e}')
    console_of_width(Console(width=10_000).measure(table).maximum).print(table)


def _arrow(before: float, after: float) -> str:
    return f'{before:.4g} -> {after:.4g}'

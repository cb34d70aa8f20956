"""What ``tools/check_data.py`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mmlk.cli.progress import make_progress
from mmlk.cli.summary import print_table
from mmlk.datasets.check import Report, check_data
from mmlk.datasets.check.expected import class_names, expected_in
from mmlk.datasets.check.report import Item, number
from mmlk.errors import UsageError


def check_with_progress(name: str, root: Path | None, sample: int | None) -> Report:
    """Check a data set while a bar shows how far it is."""
    with make_progress() as progress:

        def track(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
            yield from progress.track(items, description=what, total=total)

        return check_data(name, root, sample, track)


def print_report(name: str, report: Report) -> None:
    """Print the facts as a table, then every problem in one line."""
    result = number(len(report.problems), 'problem') if report.problems else 'no problems'
    print_table(f'check of {name}', [*report.rows, ('result', result)])
    for problem in report.problems:
        print(f'problem: {problem}')


def print_classes(name: str, root: Path) -> None:
    """Print number and name of every class.

    Raises:
        UsageError: The package that knows the names is not installed.
    """
    expected = expected_in(name, root)
    names = class_names(name, expected)
    if names is None:
        raise UsageError(
            f'the classes of {name} are named by {expected.host.split(".")[0]}, found no such package; install it'
        )
    first = int(expected.kind == 'ADE20KDataset')
    for label, text in enumerate(names, first):
        print(f'{label:4d} {text}')

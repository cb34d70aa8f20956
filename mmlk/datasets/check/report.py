"""What was found: rows to show, and problems, each with its place and its cure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

Item = TypeVar('Item')

#: Passes items on while it shows how far they are: called with the items, what is done with them, and their number,
#: which may be unknown.
Track = Callable[[Iterable[Item], str, int | None], Iterable[Item]]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: File or folder.
        what: What is wrong with it.
        cure: What to do.
    """

    where: Path
    what: str
    cure: str

    def __str__(self) -> str:
        return f'{self.where}: {self.what}; {self.cure}'


@dataclass
class Report:
    """What a check found.

    Attributes:
        rows: Facts, as (what, value).
        problems: What is wrong, empty for a data set that can be used.
    """

    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, where: Path, what: str, cure: str) -> None:
        """Note a problem, once."""
        problem = Problem(where, what, cure)
        if problem not in self.problems:
            self.problems.append(problem)


def some(names: Sequence[object], limit: int = 3) -> str:
    """The first few of several names, and how many more there are."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(map(str, names[:limit])) + more


def number(count: int, one: str, many: str = '') -> str:
    """A number with its noun: ``1 picture``, ``2 pictures``."""
    return f'{count} {one if count == 1 else many or one + "s"}'

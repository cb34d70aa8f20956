"""Reading pictures and label maps, all or a sample: which are broken, and how large are they?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mmlk.datasets.check.report import Report, Track, number, some
from mmlk.datasets.decoding import read_size

Item = TypeVar('Item')
Result = TypeVar('Result')

# Pictures that are handed to the threads at once: bounds what is kept of a million of them.
_BATCH = 256


def take_sample(items: Sequence[Item], size: int | None) -> list[Item]:
    """Evenly spread items, always the same; ``None`` takes all."""
    if size is None or size >= len(items):
        return list(items)
    return [items[index * len(items) // size] for index in range(size)]


def read_each(
    read: Callable[[Item], Result], items: Sequence[Item], track: Track, what: str
) -> Iterator[tuple[Item, Result | None, str]]:
    """Read files in several threads.

    Args:
        read: Called with an item; decoding leaves Python's lock to other threads.
        items: What to read.
        track: Shows how far it is.
        what: What is read.

    Yields:
        An item, what came of it, and otherwise the reason.
    """

    def attempt(item: Item) -> tuple[Item, Result | None, str]:
        try:
            return item, read(item), ''
        except Exception as error:  # decoders raise anything on a broken file
            reason = str(error).strip().splitlines() or [type(error).__name__]
            return item, None, reason[0]

    def results() -> Iterator[tuple[Item, Result | None, str]]:
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for start in range(0, len(items), _BATCH):
                yield from pool.map(attempt, items[start : start + _BATCH])

    yield from track(results(), what, len(items))


def read_pictures(
    report: Report, folder: Path, names: Sequence[str], archive: str, track: Track, what: str
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Decode pictures; those that cannot be are a problem.

    Args:
        report: Gets the problem, at the end.
        folder: Where they are.
        names: Their names in it.
        archive: Official file that holds them.
        track: Shows how far it is.
        what: What is read.

    Yields:
        Name, and width and height in pixels, of every picture that was decoded.
    """
    broken = []
    for name, size, reason in read_each(lambda name: read_size(folder / name), names, track, what):
        if size is None:
            broken.append(f'{name} ({reason})')
        else:
            yield name, size
    report_broken(report, folder, broken, archive, 'picture')


def report_broken(report: Report, folder: Path, broken: list[str], archive: str, noun: str) -> None:
    """Note files that cannot be decoded, if there are any."""
    if broken:
        cure = f'unpack {archive} again, or fetch it again'
        report.add(folder, f'{number(len(broken), noun)} that cannot be read: {some(broken)}', cure)

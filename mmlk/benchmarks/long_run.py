"""What a process and its children hold over time, and whether it grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

_PROC = Path('/proc')
#: Names in /proc/PID/smaps_rollup, in kB. Pages of files, such as libraries, are left out where pages are shared out
#: among processes: their share changes with whatever else runs on the machine.
_MEMORY = {'Rss': 'rss', 'Anonymous': 'anonymous', 'Pss_Anon': 'share', 'Pss_Shmem': 'share'}


@dataclass(frozen=True)
class Sample:
    """One look at a process and its children.

    Attributes:
        seconds: Since the start.
        iteration: Of the training, as its log last had it.
        rss_kib: Resident memory of the process itself.
        anonymous_kib: The part of it that is not a file's.
        tree_kib: The same part of the process and all below it, shared memory included, shared pages counted once.
        descriptors: Open file descriptors of the process itself.
        tree_descriptors: Of the process and all below it.
        threads: Of the process itself.
        children: Processes below it.
    """

    seconds: float
    iteration: int
    rss_kib: int
    anonymous_kib: int
    tree_kib: int
    descriptors: int
    tree_descriptors: int
    threads: int
    children: int


@dataclass(frozen=True)
class Slope:
    """A robust line through points.

    Attributes:
        median: Of the slopes between all pairs of points (Theil and Sen).
        low: Lower end of the 95 % interval.
        high: Upper end.
        points: Number of them.
    """

    median: float
    low: float
    high: float
    points: int

    def record(self) -> dict[str, float | int]:
        """For a result file."""
        return asdict(self)


def look(pid: int, seconds: float, iteration: int) -> Sample | None:
    """A sample of a process; ``None`` if it has ended.

    Raises:
        OSError: The system does not tell, such as where there is no /proc.
    """
    try:
        main = _memory(pid)
        # What is gone has an empty file for a moment.
        if not main:
            return None
        below = _below(pid)
        descriptors, threads = _descriptors(pid), len(os.listdir(_PROC / str(pid) / 'task'))
    except (FileNotFoundError, ProcessLookupError):
        return None
    tree, others = main['share'], 0
    for child in below:
        try:
            tree += _memory(child).get('share', 0)
            others += _descriptors(child)
        except (FileNotFoundError, ProcessLookupError):
            # It ended while we looked.
            continue
    return Sample(
        seconds=round(seconds, 1),
        iteration=iteration,
        rss_kib=main['rss'],
        anonymous_kib=main['anonymous'],
        tree_kib=tree,
        descriptors=descriptors,
        tree_descriptors=descriptors + others,
        threads=threads,
        children=len(below),
    )


def _memory(pid: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in (_PROC / str(pid) / 'smaps_rollup').read_text().splitlines()[1:]:
        name, _, rest = line.partition(':')
        if name in _MEMORY:
            key = _MEMORY[name]
            found[key] = found.get(key, 0) + int(rest.split()[0])
    return found


def _descriptors(pid: int) -> int:
    return len(os.listdir(_PROC / str(pid) / 'fd'))


def _below(pid: int) -> list[int]:
    """Processes that a process and those below it have started."""
    found = []
    for task in (_PROC / str(pid) / 'task').iterdir():
        try:
            children = [int(word) for word in (task / 'children').read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            try:
                found += [child, *_below(child)]
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def theil_sen(x: Sequence[float], y: Sequence[float]) -> Slope:
    """The median slope between all pairs of points, with Sen's interval (normal approximation of Kendall's statistic).

    Up to 29 % of the points may be anywhere. The interval supposes that points do not depend on each other.

    Args:
        x: Positions.
        y: Values.

    Raises:
        ValueError: There are fewer than three positions.

    Example:
        >>> theil_sen([0, 1, 2, 3, 4], [0, 2, 4, 60, 8]).median
        2.0
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(np.unique(x)) < 3:
        raise ValueError(f'a slope needs three different positions or more, got {len(np.unique(x))}')
    first, second = np.triu_indices(len(x), 1)
    apart = x[first] != x[second]
    first, second = first[apart], second[apart]
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    count = len(x)
    # Half of the width in ranks, at 95 %.
    reach = 1.96 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int(np.floor((len(slopes) - reach) / 2)))
    high = min(len(slopes) - 1, int(np.ceil((len(slopes) + reach) / 2)))
    return Slope(float(np.median(slopes)), float(slopes[low]), float(slopes[high]), count)


def growth(samples: Sequence[Sample], name: str, begin: int, window: int) -> Slope:
    """How a measure grows with the iterations, per 1000 of them.

    Args:
        samples: In order.
        name: Attribute of :class:`Sample`.
        begin: Iteration from which on samples count.
        window: Iterations of which the least value is one point: what is left between two steps, when activations and
            gradients are gone. The highest depends on where in a step the looks happened to fall.

    Raises:
        ValueError: There are fewer than three windows.
    """
    windows: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.iteration >= begin:
            windows.setdefault(sample.iteration // window, []).append(sample)
    x = [np.mean([sample.iteration for sample in each]) / 1000 for each in windows.values()]
    y = [min(getattr(sample, name) for sample in each) for each in windows.values()]
    return theil_sen(x, y)

"""The cheapest way to compute given kernels exactly: which channels together, each as one kernel or as a cross.

Kernels are those of one depthwise convolution, (C, R, S) with odd edges; "reach" is the distance of a tap from the
centre.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mmlk.models.shrink.cost import Site, convolution_ms, moving_ms

#: Groups of channels at most, beside the one of zero kernels.
MAX_GROUPS = 4
#: Places at which the sorted channels may be cut into groups.
_CUTS = 12
#: Fewer groups are preferred to a time that is lower by less than this factor.
_NEARLY = 1.03

Sizes = tuple[tuple[int, int], ...]


class PlannedGroup(NamedTuple):
    """Channels that are convolved together.

    Attributes:
        channels: Their indices.
        kernel_sizes: One kernel (R, S), a vertical and a horizontal strip, or none where all kernels are zero.
    """

    channels: np.ndarray
    kernel_sizes: Sizes


class Plan(NamedTuple):
    """Groups of channels and the predicted time in milliseconds."""

    groups: tuple[PlannedGroup, ...]
    predicted_ms: float


def make_plan(support: np.ndarray, site: Site, taps: int, max_groups: int = MAX_GROUPS, moved: bool = False) -> Plan:
    """Choose the groups with the lowest predicted time.

    Args:
        support: Where the kernels (C, R, S) are not zero.
        site: Where they are applied.
        taps: Taps per channel that may be computed: those of the present form. On maps smaller than the kernel one
            large kernel can be faster than two strips, but it would be slower on larger maps.
        max_groups: Groups at most, beside that of the zero kernels.
        moved: Channels are gathered and put back in any case, so that this costs nothing more.
    """
    alive = support.any((1, 2))
    dead = np.flatnonzero(~alive)
    live = np.flatnonzero(alive)
    # A constant is put into its place, and that is all.
    constant = moving_ms(site, len(dead)) / 2 if len(dead) else 0.0
    if not len(live):
        return Plan((PlannedGroup(dead, ()),), constant)
    best = None
    for order in _orders(support[live], site, taps):
        groups, cost = _partition(live[order], support, site, taps, max_groups, moved or len(dead) > 0)
        if best is None or cost < best.predicted_ms:
            best = Plan(tuple(groups), cost)
    if not len(dead):
        return best
    if not moved:
        # Where moving channels costs more than convolving those of zeros, they stay.
        together = cheapest_sizes(support[live].any(0), len(support), site, taps)
        if together[1] < best.predicted_ms + constant:
            return Plan((PlannedGroup(np.arange(len(support)), together[0]),), together[1])
    return Plan((*best.groups, PlannedGroup(dead, ())), best.predicted_ms + constant)


def cheapest_sizes(union: np.ndarray, channels: int, site: Site, taps: int) -> tuple[Sizes, float]:
    """One kernel or two strips of at most ``taps`` taps that hold all of ``union`` (R, S), and their milliseconds.

    Of a cross, the vertical strip holds the centre.
    """
    rows, columns = _reach(union)
    box = ((2 * rows + 1, 2 * columns + 1),)
    fits = _count(box) <= taps
    best = box, convolution_ms(site, channels, box) if fits else math.inf
    middle_row, middle = union.shape[0] // 2, union.shape[1] // 2
    # Farthest row of the taps in each column, -1 for none.
    distance = np.abs(np.arange(union.shape[0]) - middle_row)
    per_column = np.where(union, distance[:, None], -1).max(0)
    before = rows + 1
    for half in range(columns):
        outside = max(per_column[: middle - half].max(), per_column[middle + half + 1 :].max())
        inside = per_column[middle - half : middle + half + 1].max()
        if inside < 0 or outside >= before:
            continue
        before = outside
        strips = ((2 * int(inside) + 1, 2 * half + 1), (2 * int(outside) + 1, 2 * columns + 1))
        cost = convolution_ms(site, channels, strips)
        if cost < best[1] and _count(strips) <= taps:
            best = strips, cost
    return best


def _count(sizes: Sizes) -> int:
    return sum(rows * columns for rows, columns in sizes)


def _orders(support: np.ndarray, site: Site, taps: int) -> list[np.ndarray]:
    """Channels by the time of their own kernels, by their reach along the rows, and along the columns."""
    reaches = np.array([_reach(kernel) for kernel in support])
    costs: dict[tuple, float] = {}
    own = np.empty(len(support))
    for index, kernel in enumerate(support):
        key = _corners(kernel, reaches[index])
        if key not in costs:
            costs[key] = cheapest_sizes(kernel, len(support), site, taps)[1]
        own[index] = costs[key]
    rows, columns = reaches.T
    return [np.lexsort(keys) for keys in ((rows, columns, own), (rows, columns), (columns, rows))]


def _corners(kernel: np.ndarray, reach: np.ndarray) -> tuple:
    """What the cheapest sizes of one kernel depend on."""
    middle = kernel.shape[1] // 2
    distance = np.abs(np.arange(kernel.shape[0]) - kernel.shape[0] // 2)
    per_column = np.where(kernel, distance[:, None], -1).max(0)
    folded = np.maximum(per_column[: middle + 1][::-1], per_column[middle:])
    return (*reach.tolist(), folded.tobytes())


def _partition(
    order: np.ndarray, support: np.ndarray, site: Site, taps: int, max_groups: int, moved: bool
) -> tuple[list[PlannedGroup], float]:
    """Cut the sorted channels into groups with the lowest total time."""
    count = len(order)
    cuts = np.unique(np.linspace(0, count, min(count, _CUTS) + 1).astype(int))
    places = len(cuts) - 1
    # Taps of everything from each piece on, so that each pair of cuts needs one union.
    pieces = [support[order[start:stop]].any(0) for start, stop in zip(cuts[:-1], cuts[1:], strict=True)]
    found: dict[tuple[int, int], tuple[Sizes, float]] = {}
    for start in range(places):
        union = np.zeros_like(pieces[0])
        for stop in range(start + 1, places + 1):
            union = union | pieces[stop - 1]
            channels = int(cuts[stop] - cuts[start])
            sizes, cost = cheapest_sizes(union, channels, site, taps)
            whole = stop - start == places and not moved
            found[start, stop] = sizes, cost + (0.0 if whole else moving_ms(site, channels))
    # best[k][i]: time of the first i pieces in k groups, and where the last begins.
    best = [{0: (0.0, 0)}]
    for _ in range(min(max_groups, places)):
        previous = best[-1]
        best.append(
            {
                stop: min((previous[start][0] + found[start, stop][1], start) for start in previous if start < stop)
                for stop in range(1, places + 1)
                if any(start < stop for start in previous)
            }
        )
    lowest = min(each[places][0] for each in best[1:] if places in each)
    number = next(k for k in range(1, len(best)) if places in best[k] and best[k][places][0] <= lowest * _NEARLY)
    total, stop, groups = best[number][places][0], places, []
    for k in range(number, 0, -1):
        start = best[k][stop][1]
        channels = np.sort(order[cuts[start] : cuts[stop]])
        groups.append(PlannedGroup(channels, found[start, stop][0]))
        stop = start
    return groups[::-1], total


def _reach(support: np.ndarray) -> tuple[int, int]:
    """Largest distance of a tap from the centre, along the rows' axis and the columns'."""
    reach = []
    for axis in (1, 0):
        taken = np.flatnonzero(support.any(axis))
        middle = support.shape[1 - axis] // 2
        reach.append(int(max(middle - taken[0], taken[-1] - middle)))
    return reach[0], reach[1]

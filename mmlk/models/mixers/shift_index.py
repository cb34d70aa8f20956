"""Index tables of the shift-wise convolution: which channels pass by, and where every small kernel goes.

The authors draw them at random from fixed seeds and do not save them, so weights only fit tables with these very
numbers. They are drawn here from the Mersenne Twister itself: private, independent of the default device, and equal to
what ``torch.randperm`` and ``torch.randint`` give on the CPU after ``torch.manual_seed(123)``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SEED = 123

#: How the number of ghost channels is rounded, which differs between the two generations of the network.
VERSIONS = ('v1', 'v2')


class GhostSplit(NamedTuple):
    """Channels of a map, in ascending order.

    Attributes:
        convolved: Channels that go through the kernels; they come out first.
        ghost: Channels that pass by; they come out last.
    """

    convolved: np.ndarray
    ghost: np.ndarray


class ShiftTables(NamedTuple):
    """Arrangements of the nk small kernels of every channel.

    Attributes:
        horizontal: (A, C, nk); slot j, from the left, of arrangement a of channel c holds kernel ``[a, c, j]``.
        vertical: The same from the top.
        center: (A, C); the kernel at the centre.
    """

    horizontal: np.ndarray
    vertical: np.ndarray
    center: np.ndarray


def make_ghost_split(channels: int, ghost_ratio: float, version: str = 'v2') -> GhostSplit:
    """Choose the channels that pass by.

    ``'v1'``: ``int(C * ratio)`` of them. ``'v2'``: all but ``int(C * (1 - ratio))``, made even.

    Raises:
        ValueError: The version is unknown, or no channel is left to convolve.

    Example:
        >>> make_ghost_split(10, 0.23).ghost
        array([0, 4, 5, 7], dtype=int32)
    """
    if version not in VERSIONS:
        raise ValueError(f'version must be one of {VERSIONS}, got {version!r}')
    # Outside [0, 1) the authors' rounding would still give a number.
    count = -1
    if 0 <= ghost_ratio < 1:
        count = (
            int(channels * ghost_ratio) if version == 'v1' else channels - int(channels * (1 - ghost_ratio)) // 2 * 2
        )
    if not 0 <= count < channels:
        raise ValueError(f'ghost_ratio must leave some of {channels} channels to convolve, got {ghost_ratio}')
    ghost = np.sort(np.random.RandomState(SEED).permutation(channels)[:count])
    convolved = np.setdiff1d(np.arange(channels), ghost)
    return GhostSplit(convolved.astype(np.int32), ghost.astype(np.int32))


def make_shift_tables(num_kernels: int, channels: int, num_arrangements: int) -> ShiftTables:
    """Arrange the small kernels of every channel, several times.

    Args:
        num_kernels: Small kernels per channel, nk.
        channels: Convolved channels C.
        num_arrangements: Arrangements A that are added up.

    Example:
        >>> make_shift_tables(3, 2, 2).horizontal.tolist()
        [[[1, 2, 0], [0, 1, 2]], [[1, 0, 2], [0, 2, 1]]]
    """
    # One stream in this order: all horizontal permutations, all vertical ones, all choices of the centre.
    lines = num_arrangements * channels
    draws = 2 * lines * (num_kernels - 1) + lines
    stream = np.random.RandomState(SEED).randint(0, 2**32, draws, dtype=np.uint32)
    swaps, choices = np.split(stream, [draws - lines])
    permutations = np.tile(np.arange(num_kernels, dtype=np.int32), (2 * lines, 1))
    rows = np.arange(2 * lines)
    for i, draw in enumerate(swaps.reshape(2 * lines, num_kernels - 1).T):
        other = i + draw % (num_kernels - i)
        permutations[rows, i], permutations[rows, other] = permutations[rows, other], permutations[rows, i]
    horizontal, vertical = permutations.reshape(2, num_arrangements, channels, num_kernels)
    center = (choices % num_kernels).astype(np.int32).reshape(num_arrangements, channels)
    return ShiftTables(horizontal, vertical, center)


def count_placements(tables: ShiftTables) -> np.ndarray:
    """How often each kernel fills each place: (C, 2 nk + 1, nk), horizontal slots, vertical slots, the centre.

    The kernel at a place is the sum over the last axis of these counts times the small kernels.
    """
    one_hot = np.eye(tables.horizontal.shape[-1], dtype=np.uint8)
    places = (tables.horizontal, tables.vertical, tables.center[..., None])
    return np.concatenate([one_hot[index].sum(0, dtype=np.uint8) for index in places], axis=1)

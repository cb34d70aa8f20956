"""How large an effective receptive field is: the smallest centred square that holds a share of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Shares of the published table.
THRESHOLDS = (0.2, 0.3, 0.5, 0.99)
SCALES = ('log', 'linear')


@dataclass(frozen=True)
class Area:
    """The smallest centred square that holds more than a share of a map.

    Attributes:
        threshold: The share, a fraction.
        side: Height and width in pixels; they differ where the square reaches over the map and is cut off.
        ratio: Pixels of the square over pixels of the map.
    """

    threshold: float
    side: tuple[int, int]
    ratio: float


def scale_map(matrix: NDArray, scale: str = 'log') -> NDArray[np.float64]:
    """What is drawn and measured: A = log10(M + 1) / max, or, ``'linear'``, A = M / max.

    Args:
        matrix: Contributions M (H, W), not negative.
        scale: ``'log'``, as published, or ``'linear'``.

    Raises:
        ValueError: ``scale`` is unknown, or M is not a map of finite numbers of which at least one is above zero.

    Note:
        With the logarithm the result depends on the unit of the gradient: where all contributions are far below 1 it is
        nearly linear, where they are far above 1 small ones are lifted.
    """
    if scale not in SCALES:
        raise ValueError(f'scale must be one of {SCALES}, got {scale!r}')
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f'a map must have the shape (H, W), got {matrix.shape}')
    if not np.isfinite(matrix).all() or matrix.min() < 0 or matrix.max() == 0:
        raise ValueError('a map must hold finite numbers, none below zero and one above, got something else')
    if scale == 'log':
        # log1p keeps contributions far below 1, which 1 + M would round away.
        matrix = np.log1p(matrix) / np.log(10)
    return matrix / matrix.max()


def area_ratios(matrix: NDArray, thresholds: Sequence[float] = THRESHOLDS, scale: str = 'log') -> list[Area]:
    """Measure the square that holds more than each share of the scaled map.

    Equation: with A = :func:`scale_map` of the matrix and S_i the sum of A over the pixels at most i rows and i columns
    from (H // 2, W // 2), the area for t is that of the smallest i with S_i / S > t; its side is 2 i + 1 and its ratio
    (2 i + 1)^2 / (H W).

    Args:
        matrix: Contributions (H, W).
        thresholds: Shares, fractions between 0 and 1.
        scale: As for :func:`scale_map`.

    Returns:
        One area per threshold, in their order.

    Raises:
        ValueError: A threshold is not between 0 and 1, or the matrix is no such map.

    Note:
        Squares are cut off at the border and the last one is the whole map, so every share is reached. The authors'
        scripts stop at the largest square that fits, which misses the first row and column of a map with even edges,
        and fail if that holds too little; they start from a square of 3 instead of 1.

    Example:
        >>> matrix = np.zeros((9, 9))
        >>> matrix[3:6, 3:6] = 1.0
        >>> [area.side for area in area_ratios(matrix, [0.1, 0.5])]
        [(1, 1), (3, 3)]
    """
    for threshold in thresholds:
        if not 0 < threshold < 1:
            raise ValueError(f'a threshold must be a fraction between 0 and 1, got {threshold}')
    scaled = scale_map(matrix, scale)
    height, width = scaled.shape
    steps = np.arange(max(height // 2, width // 2) + 1)
    top, bottom = np.maximum(height // 2 - steps, 0), np.minimum(height // 2 + steps + 1, height)
    left, right = np.maximum(width // 2 - steps, 0), np.minimum(width // 2 + steps + 1, width)
    # total[i, j] is the sum of the first i rows and j columns, so each square takes four look-ups.
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = scaled.cumsum(0).cumsum(1)
    inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    shares = inside / total[-1, -1]
    # Rounding of the sums must not hide that the last square is everything.
    shares[-1] = 1.0
    areas = []
    for threshold in thresholds:
        step = int(np.argmax(shares > threshold))
        side = (int(bottom[step] - top[step]), int(right[step] - left[step]))
        areas.append(Area(float(threshold), side, side[0] * side[1] / (height * width)))
    return areas

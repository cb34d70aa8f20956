"""Sharing grids of peripheral convolution (PeLK, arXiv 2403.07589, section 4.1, Eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence

from mmlk.ops.checks import check_odd


def make_sharing_grid(kernel_size: int, center_radius: int = 2, base: int = 2) -> tuple[int, ...]:
    """Sizes of the groups of taps that share one parameter, along one axis.

    Taps within ``center_radius`` of the centre have a parameter each; outwards the groups grow as base, base^2, ... The
    outermost group takes what is left; a remainder smaller than half of the last full group is merged into that group
    instead (the paper does not give its grids for K = 69; this rule reproduces every grid it does give).

    Args:
        kernel_size: Edge K of the kernel, odd.
        center_radius: Radius r_c of the fine centre in taps.
        base: Growth m of the group size.

    Returns:
        Group sizes from one end to the other; they add up to ``kernel_size``.

    Raises:
        ValueError: K is even, or the centre does not fit into the kernel.

    Example:
        >>> make_sharing_grid(31)
        (7, 4, 2, 1, 1, 1, 1, 1, 2, 4, 7)
    """
    check_odd('kernel_size', (kernel_size,))
    radius = kernel_size // 2
    if not 0 <= center_radius <= radius:
        raise ValueError(
            f'center_radius must be between 0 and {radius} for kernel_size {kernel_size}, got {center_radius}'
        )
    if base < 2:
        raise ValueError(f'base must be at least 2, got {base}')
    groups: list[int] = []
    left, size = radius - center_radius, base
    while left >= size:
        groups.append(size)
        left -= size
        size *= base
    if left and groups and 2 * left < groups[-1]:
        groups[-1] += left
    elif left:
        groups.append(left)
    center = (1,) * (2 * center_radius + 1)
    return (*reversed(groups), *center, *groups)


def check_sharing_grid(grid: Sequence[int], kernel_size: int) -> tuple[int, ...]:
    """Return the grid as a tuple if it covers the kernel.

    Raises:
        ValueError: A group is not a positive integer, or the groups do not add up to ``kernel_size``.
    """
    grid = tuple(grid)
    if not grid or any(not isinstance(group, int) or group < 1 for group in grid):
        raise ValueError(f'sharing_grid must hold positive integers, got {grid}')
    if sum(grid) != kernel_size:
        raise ValueError(
            f'sharing_grid must add up to kernel_size {kernel_size}, got {grid}, which adds up to {sum(grid)}'
        )
    return grid

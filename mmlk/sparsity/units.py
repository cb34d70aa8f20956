"""What one entry of a mask switches on or off."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from mmlk.errors import UsageError


class Elements:
    """Every weight on its own; a mask has the shape of its weight."""

    def mask_shape(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the mask of a weight."""
        return tuple(shape)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of ``values`` (of a weight's shape) over each entry of the mask, in the shape of the mask."""
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values`` (of a weight's shape) over each entry of the mask, in the shape of the mask."""
        return values


class Kernels:
    """Whole kernels: a weight (O, I, R, S) has a mask (O, 1, 1, 1).

    For the small kernels of SW, whose weights are (O, 1, N, N). A kernel that is off costs nothing after fusion where
    the whole row, column or channel it feeds is off.

    Example:
        >>> Kernels().mask_shape('paths.0', (1020, 1, 3, 3))
        (1020, 1, 1, 1)
        >>> Kernels().sum(torch.ones(2, 1, 3, 3)).flatten().tolist()
        [9.0, 9.0]
    """

    def mask_shape(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the mask of a weight.

        Raises:
            UsageError: The weight is not that of a convolution.
        """
        if len(shape) != 4:
            raise UsageError(
                f'Whole kernels need weights of shape (O, I, R, S), got {name} of shape {tuple(shape)}: take single '
                'weights as unit, or scope="large_kernels".'
            )
        return (shape[0], 1, 1, 1)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of ``values`` (of a weight's shape) over each entry of the mask, in the shape of the mask."""
        return values.sum((1, 2, 3), keepdim=True)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values`` (of a weight's shape) over each entry of the mask, in the shape of the mask."""
        return values.mean((1, 2, 3), keepdim=True)


Unit = Elements | Kernels


def weights_per_entry(shape: Sequence[int], mask_shape: Sequence[int]) -> int:
    """Number of weights that one entry of the mask covers."""
    return math.prod(shape) // max(1, math.prod(mask_shape))

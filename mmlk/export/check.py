"""How far the outputs of a file are from those of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mmlk.errors import UsageError

#: Largest |a - b| / max |b| that is allowed, float32.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Difference:
    """Outputs of a file (a) against those of the model (b).

    Attributes:
        shape: (N, 3, H, W) of the image.
        output: Name of the output that differs most.
        absolute: Largest \\|a - b\\| there.
        relative: The same by the largest \\|b\\| of this output.
    """

    shape: tuple[int, ...]
    output: str
    absolute: float
    relative: float

    @property
    def equal(self) -> bool:
        """Whether it is within the tolerance; NaN is not."""
        return self.relative <= TOLERANCE


def find_differences(
    names: Sequence[str], shape: Sequence[int], actual: Sequence[Tensor], expected: Sequence[Tensor]
) -> Difference:
    """The largest difference among the outputs of one image.

    Raises:
        UsageError: The number or the shape of the outputs differs, or the model itself gives NaN or infinity.
    """
    if len(actual) != len(expected):
        raise UsageError(f'the file gives {len(actual)} outputs, the model {len(expected)}')
    worst = Difference(tuple(shape), names[0], 0.0, 0.0)
    for name, a, b in zip(names, actual, expected, strict=True):
        if a.shape != b.shape:
            raise UsageError(
                f'{name} of the file is {tuple(a.shape)} for an image {tuple(shape)}, that of the model '
                f'{tuple(b.shape)}: its size is fixed somewhere; --static exports one size'
            )
        if not b.isfinite().all():
            raise UsageError(f'{name} of the model itself has NaN or infinity for a random image: check the checkpoint')
        absolute = (a.double() - b.double()).abs().max().item()
        largest = b.double().abs().max().item()
        relative = absolute / largest if largest else absolute
        # NaN is larger than all numbers here.
        if math.isnan(relative) or relative > worst.relative:
            worst = Difference(tuple(shape), name, absolute, relative)
    return worst

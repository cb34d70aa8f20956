"""Averaged copies of a model that trains sparsely."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmengine.hooks import EMAHook, Hook
from torch import Tensor

from mmlk.sparsity import SparseTraining


class MaskedAverages:
    """The averages of ``EMAHook`` (MMEngine's or mmpretrain's) under the masks of the weights.

    An average of masked weights stays masked by itself until an update changes the masks. Then dropped entries are set
    to zero, and a grown entry, whose average is zero, takes the value of its weight at its first optimizer step instead
    of creeping there (facts of SLaK's code: the average of a grown weight equals the weight at once).

    Args:
        hooks: Hooks of the runner, of which those that average are taken.
        training: The masks.
    """

    def __init__(self, hooks: Iterable[Hook], training: SparseTraining) -> None:
        self.training = training
        self._models = [hook.ema_model.module for hook in hooks if isinstance(hook, EMAHook)]

    def _averages(self) -> list[dict[str, Tensor]]:
        return [dict(model.named_parameters()) for model in self._models]

    def mask(self) -> None:
        """Set masked entries to zero."""
        for averages in self._averages():
            self.training.apply(averages)

    @torch.no_grad()
    def start_grown(self) -> None:
        """Give active entries that have no average yet the value of the weight."""
        for averages in self._averages():
            for name, mask in self.training.masks.items():
                average, weight = averages[name], self.training.parameters[name]
                new = (average == 0) & mask.to(average.device)
                average.copy_(torch.where(new, weight.to(average.device), average))

"""Training that counts passes over the data."""

from __future__ import annotations

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from torch import nn

from mmlk.engine.loops.data import SeededDataLoader
from mmlk.engine.loops.exact import ExactLoop
from mmlk.registry import LOOPS


@LOOPS.register_module()
class EpochBasedTrainLoop(ExactLoop, MMEngineEpochBasedTrainLoop):
    """MMEngine's loop over epochs, resumed exactly, also within an epoch.

    See :class:`~mmlk.engine.loops.exact.ExactLoop`.

    Args:
        runner: The runner.
        dataloader: A loader, or the config of one.
        max_epochs: Epochs in all.
        val_begin: First epoch after which to validate.
        val_interval: Epochs from one validation to the next.
        dynamic_intervals: (epoch, interval from there on) pairs.

    Example:
        >>> train_cfg = dict(type='mmlk.EpochBasedTrainLoop', max_epochs=36, val_interval=1)
    """

    endless = False

    @property
    def _progress(self) -> tuple[int, int]:
        return self._epoch, self._max_epochs

    def run(self) -> nn.Module:
        """Train to the end, and return the model."""
        self.runner.call_hook('before_train')
        with self._running():
            if self._resume() and self._epoch and not self.batches:
                self._make_up_for_validation()
            while self._epoch < self._max_epochs and not self.stop_training:
                self.run_epoch()
                self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of it after a resume."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = self.batches
        if isinstance(self.dataloader, SeededDataLoader):
            self.dataloader.move_to(self._epoch, skip=first)
        self._restore_random_state()
        self._resumed = None
        for index, data_batch in enumerate(self.dataloader, start=first):
            self.batches = index + 1
            self.run_iter(index, data_batch)
            self._stop_if_asked()
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self.batches = 0

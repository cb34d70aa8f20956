"""Training that counts iterations."""

from __future__ import annotations

from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from torch import nn

from mmlk.engine.loops.data import SeededDataLoader
from mmlk.engine.loops.exact import ExactLoop
from mmlk.registry import LOOPS


@LOOPS.register_module()
class IterBasedTrainLoop(ExactLoop, MMEngineIterBasedTrainLoop):
    """MMEngine's loop over iterations, resumed exactly; see :class:`~mmlk.engine.loops.exact.ExactLoop`.

    Args:
        runner: The runner.
        dataloader: A loader, or the config of one.
        max_iters: Iterations in all.
        val_begin: First iteration after which to validate.
        val_interval: Iterations from one validation to the next.
        dynamic_intervals: (iteration, interval from there on) pairs.

    Example:
        >>> train_cfg = dict(type='mmlk.IterBasedTrainLoop', max_iters=160000, val_interval=16000)
    """

    endless = True

    @property
    def _progress(self) -> tuple[int, int]:
        return self._iter, self._max_iters

    def run(self) -> nn.Module:
        """Train to the end, and return the model."""
        self.runner.call_hook('before_train')
        # To hooks, the whole training is one epoch.
        self.runner.call_hook('before_train_epoch')
        with self._running():
            if self._resume():
                self._make_up_for_validation()
            self._skip()
            self._restore_random_state()
            while self._iter < self._max_iters and not self.stop_training:
                self.runner.model.train()
                self.run_iter(next(self.dataloader_iterator))
                self._stop_if_asked()
                self._validate_if_due()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _skip(self) -> None:
        if isinstance(self.dataloader, SeededDataLoader):
            self.dataloader.move_to(epoch=0, skip=self._iter)
        else:
            for _ in range(self._iter):
                next(self.dataloader_iterator)

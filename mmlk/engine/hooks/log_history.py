"""A bounded memory of what was logged."""

from __future__ import annotations

from mmengine.hooks import Hook

from mmlk.errors import UsageError
from mmlk.registry import HOOKS


@HOOKS.register_module()
class LogHistoryHook(Hook):
    """Keep only the last values of every logged scalar.

    MMEngine keeps up to a million values of each, in arrays that it copies whole for every new one, and puts them into
    every checkpoint, although a line of the log averages over a window of tens. At 160000 iterations and 12 scalars
    that is 30 MiB, copied in every iteration.

    Where the log processor looks at an epoch or the whole run (``custom_cfg`` with ``window_size='epoch'`` or
    ``'global'``, or without), everything is kept.

    Args:
        max_length: Values to keep; more where a window of the log processor or a validation is longer.

    Raises:
        UsageError: It is not a positive integer.

    Example:
        >>> default_hooks = dict(log_history=dict(type='mmlk.LogHistoryHook', max_length=1000))
    """

    def __init__(self, max_length: int = 1000) -> None:
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise UsageError(f'LogHistoryHook needs a positive integer as max_length, got {max_length!r}')
        self.max_length = max_length
        self._bounds: dict[str, int] = {}

    def before_train(self, runner) -> None:
        """Find out how far back the log processor looks."""
        processor = runner.log_processor
        windows = [processor.window_size]
        for entry in processor.custom_cfg:
            if entry.get('method_name') != 'current':
                # Without a window, the largest or smallest of all is meant.
                windows.append(entry.get('window_size', 'global'))
        self._bounds = {}
        if all(isinstance(window, int) for window in windows):
            most = max(self.max_length, *windows)
            # A validation ends with the mean time of its batches.
            batches = 0 if runner.val_loop is None else len(runner.val_loop.dataloader)
            self._bounds = dict(train=most, val=max(most, batches))

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Bound what is new as well; it is shortened when its next value arrives."""
        if self._bounds:
            for name, history in runner.message_hub.log_scalars.items():
                history.max_length = self._bounds.get(name.partition('/')[0], self._bounds['train'])

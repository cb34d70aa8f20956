"""Signals that ask a training run to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist
from mmengine.dist import all_reduce, get_rank, get_world_size

from mmlk.engine.loops.data import shared_flag
from mmlk.errors import TrainingStopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Iterations from one question to the other processes to the next, where asking makes a GPU wait.
ASK_EVERY = 10


class StopRequest:
    """What signals have asked for.

    The first signal asks for an end after the iteration; a second one, or any outside of iterations, ends the run at
    once. In several processes all end after the same iteration, whichever of them was asked.
    """

    def __init__(self) -> None:
        self.number = 0
        #: Whether a training runs, which its workers want to know; see :class:`~mmlk.engine.loops.data.WorkerStart`.
        self.running = shared_flag()
        self._in_iterations = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals in the block; afterwards their handlers are what they were."""
        # Python lets no other thread set handlers.
        signals = SIGNALS if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._handle) for number in signals}
        self.running.value = 1
        try:
            yield
        finally:
            self.running.value = 0
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """In the block there is nothing to finish and save: a signal ends it where it is."""
        self._in_iterations = False
        try:
            if self.number:
                raise self.stopped('')
            yield
        finally:
            self._in_iterations = True

    def agreed(self, iteration: int) -> bool:
        """Whether all processes are to end after this iteration; they all ask at the same ones."""
        if get_world_size() > 1:
            if dist.get_backend() != 'gloo' and iteration % ASK_EVERY:
                return False
            number = torch.tensor(self.number)
            all_reduce(number, 'max')
            self.number = int(number)
        return bool(self.number)

    def stopped(self, what: str) -> TrainingStopped:
        """The exception that ends the run; one process says why.

        Args:
            what: What to tell after the name of the signal: what was saved.
        """
        name = signal.Signals(self.number).name
        what = what or 'nothing was saved since the last checkpoint'
        message = f'stopped by {name}: {what}; continue with the same command and --resume' if not get_rank() else ''
        # As a shell reports a process that a signal has ended.
        return TrainingStopped(message, 128 + self.number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.number = bool(self.number), number
        if again or not self._in_iterations:
            raise self.stopped('')
        if not get_rank():
            name = signal.Signals(number).name
            text = f'\n{name}: finishing the iteration, then saving a checkpoint; a second signal stops at once\n'
            # print() must not be used where it may have been interrupted.
            os.write(2, text.encode())

"""What the loops that resume exactly share: their state, validation on the side, an end on request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, broadcast, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner.base_loop import BaseLoop
from torch import Tensor
from torch.utils.data import DataLoader

from mmlk.engine.bare_model import bare_model
from mmlk.engine.loops.data import SeededDataLoader, WorkerStart, can_be_seeded, end_workers
from mmlk.engine.loops.stopping import StopRequest
from mmlk.engine.random_state import RandomState, kept_random_state, seed_everything
from mmlk.errors import UsageError

#: Entry of a checkpoint that holds the state of the loop.
STATE = 'training_state'


@dataclass(frozen=True)
class _ResumedState:
    """What :meth:`ExactLoop.gather_state` gave, read back from a file."""

    batches: int
    seeds: dict[str, int | None] | None
    random: list[RandomState]
    gradients: dict[str, Tensor]
    validated: bool

    @classmethod
    def of(cls, state: dict[str, Any]) -> _ResumedState:
        seeds = state['seeds']
        return cls(
            batches=int(state['batches']),
            seeds=None
            if seeds is None
            else {name: None if seed is None else int(seed) for name, seed in seeds.items()},
            random=[RandomState.from_state_dict(each) for each in state['random']],
            gradients=dict(state['gradients']),
            validated=bool(state['validated']),
        )


class ExactLoop:
    """Mixed into a training loop of MMEngine, it makes the loop go on exactly where a checkpoint was written.

    A checkpoint that ``mmlk.CheckpointHook`` writes during the loop holds, besides what MMEngine saves, the position in
    the data, the seeds of order and augmentation, the random state of every process, gradients that wait for an
    optimizer step, and whether a validation is due. Samples before the position are skipped by index, not read.
    Validation draws its random numbers apart. SIGTERM and Ctrl-C end the run after the iteration, with a checkpoint.

    The run after a resume equals the one that was not interrupted, bit by bit on the CPU, unless the data set keeps
    something from one sample to the next, or a hook has a state that it does not save.
    """

    #: Whether the data starts over without an end.
    endless: bool

    @property
    def _progress(self) -> tuple[int, int]:
        """Iterations or epochs that are done, and that there are in all."""
        raise NotImplementedError

    def __init__(self, runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        BaseLoop.__init__(self, runner, dataloader)
        loader, self.stop_request = self.dataloader, StopRequest()
        if can_be_seeded(loader):
            # Where processes have seeds of their own, that of the first counts.
            seed = torch.tensor(runner.seed or 0, dtype=torch.int64)
            broadcast(seed)
            loader = SeededDataLoader(loader, int(seed), self.endless, self.stop_request.running)
        else:
            print_log(
                'a resumed run will not equal an uninterrupted one: the training data has no indices '
                f'({type(loader.dataset).__name__}), so it starts from its beginning',
                'current',
                logging.WARNING,
            )
        super().__init__(runner, loader, *args, **kwargs)
        #: Batches of the epoch up to the current one, included.
        self.batches = 0
        self._resumed: _ResumedState | None = None
        self._validating: RandomState | None = None

    def gather_state(self, epoch_done: bool = False) -> dict[str, Any]:
        """The state of the loop for a checkpoint; every process has to call it, and gets the same.

        Args:
            epoch_done: The epoch is over, although its number has not grown yet.
        """
        current = self._validating or RandomState.now()
        return dict(
            batches=0 if epoch_done else self.batches,
            seeds=self.dataloader.batch_sampler.state_dict() if isinstance(self.dataloader, SeededDataLoader) else None,
            random=all_gather_object(current.state_dict()),
            gradients=_gradients(self.runner),
            validated=self._validating is not None,
        )

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Keep the state of a checkpoint; it takes effect when the loop runs, if the run is resumed.

        Raises:
            UsageError: It is not what :meth:`gather_state` gives.
        """
        try:
            self._resumed = None if state is None else _ResumedState.of(state)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f'expected {STATE!r} of the checkpoint to be the state of a training loop, got one that cannot be read '
                f'({type(error).__name__}: {error}); resume from another checkpoint'
            ) from error

    def _resume(self) -> bool:
        """Take over what the checkpoint says about data and gradients.

        Returns:
            Whether the validation after the last iteration has still to be done.
        """
        state = self._resumed
        if not self._iter:
            # The checkpoint was loaded for its weights.
            self._resumed = None
            return False
        if state is None:
            print_log(
                'the checkpoint has no random state, because it was not written by mmlk.CheckpointHook: the resumed '
                'run goes on with the next samples, but does not equal an uninterrupted one',
                'current',
                logging.WARNING,
            )
            return False
        self.batches = state.batches
        if state.seeds is not None and isinstance(self.dataloader, SeededDataLoader):
            self.dataloader.batch_sampler.load_state_dict(state.seeds)
        _set_gradients(self.runner, state.gradients)
        return not state.validated

    def _restore_random_state(self) -> None:
        """Where the run is resumed, take over the random numbers: the last thing before its first iteration."""
        if self._resumed is None:
            return
        states = self._resumed.random
        if len(states) == get_world_size():
            try:
                states[get_rank()].restore()
            except (RuntimeError, TypeError, ValueError) as error:
                raise UsageError(
                    f'expected random states in the checkpoint that the generators take, got others ({error}); resume '
                    'from another checkpoint'
                ) from error
            return
        print_log(
            f'the checkpoint was written by {len(states)} processes and there are {get_world_size()} now: random '
            'numbers start anew, and the run does not equal an uninterrupted one',
            'current',
            logging.WARNING,
        )
        seed_everything(self.runner.seed or 0, self._iter, get_rank())

    def _make_up_for_validation(self) -> None:
        """Do what was due when the run was cut off, as it would have been done then."""
        hub = self.runner.message_hub
        # Both are those of the last iteration until the next one begins.
        hub.update_info_dict(dict(iter=self._iter - 1, epoch=max(0, self._epoch - 1)))
        self._restore_random_state()
        self._validate_if_due()
        hub.update_info_dict(dict(iter=self._iter, epoch=self._epoch))

    @contextmanager
    def _running(self) -> Iterator[None]:
        """The loop runs in the block: signals are handled, and the workers that it starts end with it."""
        try:
            with self.stop_request.listening():
                yield
        finally:
            end_workers(self.dataloader)
            if isinstance(self.runner._val_loop, BaseLoop):
                end_workers(self.runner._val_loop.dataloader)

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        done, end = self._progress
        due = done >= self.val_begin and (done % self.val_interval == 0 or done == end)
        if due and self.runner.val_loop is not None:
            self._validate()

    def _validate(self) -> None:
        loader = self.runner.val_loop.dataloader
        if getattr(loader, 'num_workers', 0) and not isinstance(loader.worker_init_fn, WorkerStart):
            # They may stay for the next validation, and are signalled with all others.
            loader.worker_init_fn = WorkerStart(loader.worker_init_fn, self.stop_request.running)
        with kept_random_state() as state, self.stop_request.at_once():
            self._validating = state
            try:
                self.runner.val_loop.run()
            finally:
                self._validating = None

    def _stop_if_asked(self) -> None:
        if self.stop_request.agreed(self._iter):
            self.runner.call_hook('save_now')
            raise self.stop_request.stopped(f'iteration {self._iter} is saved in {self._last_checkpoint()}')

    def _last_checkpoint(self) -> str:
        info = self.runner.message_hub.runtime_info
        return info.get('last_ckpt', 'no checkpoint: the config has no mmlk.CheckpointHook')


def _gradients(runner) -> dict[str, Tensor]:
    """Gradients that an accumulating optimizer wrapper has not used yet, averaged over the processes."""
    wrapper = runner.optim_wrapper
    wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    if all(getattr(each, '_accumulative_counts', 1) == 1 for each in wrappers):
        return {}
    found = {
        name: p.grad.detach().clone() for name, p in bare_model(runner.model).named_parameters() if p.grad is not None
    }
    for gradient in found.values():
        # The step to come averages the sums of all processes, and this average takes part in it like them.
        all_reduce(gradient, 'mean')
    return {name: gradient.cpu() for name, gradient in found.items()}


def _set_gradients(runner, gradients: dict[str, Tensor]) -> None:
    parameters = dict(bare_model(runner.model).named_parameters())
    for name, gradient in gradients.items():
        parameters[name].grad = gradient.to(parameters[name])

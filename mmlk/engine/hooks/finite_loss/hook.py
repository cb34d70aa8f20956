"""Training stops at a loss that is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.optim import Optimizer

from mmlk.engine.bare_model import bare_model
from mmlk.engine.hooks.finite_loss.report import (
    SMALLER_STEPS,
    LastCheckpoint,
    describe_origin,
    describe_terms,
    listed,
    listed_files,
    sample_names,
)
from mmlk.engine.hooks.finite_loss.search import find_origin
from mmlk.engine.hooks.finite_loss.watch import Call, LossWatch, is_finite, loss_terms
from mmlk.errors import TrainingStopped, UsageError
from mmlk.registry import HOOKS

#: Exit status of a training command that this hook stops.
NOT_FINITE_STATUS = 3


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop training at a NaN or infinite loss, before the optimizer step that would carry it into the weights.

    The message says the iteration, the terms of the loss, the files of the batch, the layer where the first value that
    is not finite appeared, the last good checkpoint and what to do. For the layer the batch is run again, with the
    random numbers that it had; statistics of norms stay what they were. No checkpoint is written with weights or
    statistics that are not finite, so the last one is good.

    Where a loss scaler skips the steps of mixed precision that overflow, some such losses are part of the method:
    training stops at ``max_skipped`` of them between two steps, or at the first that got into the statistics of a
    norm, which no later step mends. A gradient that overflows although the loss is finite shows as parameters that are
    not finite at the next loss.

    It looks at every forward pass of the model in training whose result is a dictionary with ``loss`` in its keys,
    and waits neither for the device nor for other processes until the backward pass is queued. Processes that train
    together stop together; those whose own loss is finite stop without a message.

    Args:
        max_skipped: Losses that are not finite between two optimizer steps, where a loss scaler skips steps.

    Raises:
        UsageError: ``max_skipped`` is not a positive integer.
        TrainingStopped: In training; see above. The status is 3.

    Example:
        >>> default_hooks = dict(finite_loss=dict(type='mmlk.FiniteLossHook', max_skipped=10))
    """

    #: Before hooks that log, average or save what must not be.
    priority = 'VERY_HIGH'

    def __init__(self, max_skipped: int = 10) -> None:
        if isinstance(max_skipped, bool) or not isinstance(max_skipped, int) or max_skipped < 1:
            raise UsageError(f'FiniteLossHook needs a positive integer as max_skipped, got {max_skipped!r}')
        self.max_skipped = max_skipped
        self._runner = None
        self._handles: list[Any] = []
        self._watches: list[LossWatch] = []
        self._call: Call | None = None
        self._batch: Any = None
        self._in_iteration = False
        self._stepped = False
        self._skipped = 0
        # Names of the samples since the last step, and what is known of that step.
        self._since: list[str] = []
        self._last_step = 'loading or initialising the weights'
        self._infinite_buffers: frozenset[str] = frozenset()
        self._last_checkpoint: LastCheckpoint | None = None

    def __deepcopy__(self, memo: dict) -> FiniteLossHook:
        # The model holds this hook while it trains, and a copy of the model must not copy the run.
        return self

    def __reduce__(self):
        return type(self), (self.max_skipped,)

    def before_train(self, runner) -> None:
        """Watch the model and the optimizers from now on."""
        self.after_train(runner)
        self._runner = runner
        model = bare_model(runner.model)
        # Some models keep minus infinity in a mask; NaN has no place anywhere.
        self._infinite_buffers = frozenset(
            name for name, value in model.named_buffers() if not is_finite(value) and not value.isnan().any()
        )
        self._last_checkpoint = LastCheckpoint(runner.work_dir, runner.iter > 0, runner._load_from)
        self._handles += [
            model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            model.register_forward_hook(self._after_forward),
        ]
        for wrapper in _wrappers(runner.optim_wrapper):
            # Engines such as DeepSpeed bring optimizers of their own; there the loss is looked at after the step.
            if hasattr(wrapper.optimizer, 'register_step_pre_hook'):
                self._handles.append(wrapper.optimizer.register_step_pre_hook(self._before_step))

    def after_train(self, runner) -> None:
        """Leave model and optimizers alone."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._in_iteration = False
        self._runner = None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Look at the forward passes that follow."""
        self._watches.clear()
        self._batch = data_batch
        self._in_iteration, self._stepped = True, False

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Look at losses that no step followed, and remember what the next message may need.

        Raises:
            TrainingStopped: One is not finite.
        """
        self._in_iteration = False
        if not self._watches and (terms := loss_terms(outputs)):
            # The model trains in a way of its own, and this is all there is to see.
            self._watches.append(LossWatch(terms, None, _shared()))
        failed = self._failed()
        self._since += sample_names(data_batch)
        if failed is not None:
            self._tolerate(failed)
        if self._stepped:
            self._last_step = f'the optimizer step of iteration {runner.iter + 1} (batch: {listed_files(self._since)})'
            self._since, self._skipped = [], 0
        self._watches.clear()
        self._call = self._batch = None

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuse a checkpoint that is not good.

        Raises:
            TrainingStopped: Weights or statistics in it are not finite.
        """
        names = [
            name
            # Strategies such as DeepSpeed's write the weights elsewhere.
            for name, value in checkpoint.get('state_dict', {}).items()
            if isinstance(value, Tensor) and name not in self._infinite_buffers and not is_finite(value)
        ]
        if names:
            last = self._last_checkpoint or LastCheckpoint(runner.work_dir, False, None)
            iteration = checkpoint.get('meta', {}).get('iter', runner.iter)
            raise TrainingStopped(
                f'no checkpoint is written at iteration {iteration}, because {len(names)} of its weights and '
                f'statistics are not finite: {listed(names, 3)}; {last.describe()}; to go on, {SMALLER_STEPS}, '
                f'{last.again}',
                NOT_FINITE_STATUS,
            )

    def _before_forward(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if self._in_iteration and model.training:
            self._call = Call.now(args, kwargs, _device_of(model))

    def _after_forward(self, model: nn.Module, args: tuple, output: Any) -> None:
        if self._in_iteration and model.training and (terms := loss_terms(output)):
            self._watches.append(LossWatch(terms, self._call, _shared()))

    def _before_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        # Fused optimizers are called by the loss scaler in any case and find out themselves that they have to skip.
        found_inf = getattr(optimizer, 'found_inf', None)
        if not self._in_iteration or (found_inf is not None and bool(found_inf)):
            return
        failed = self._failed()
        if failed is not None:
            self._stop(failed)
        self._stepped = True

    def _failed(self) -> LossWatch | None:
        return next((watch for watch in self._watches if watch.failed), None)

    def _tolerate(self, failed: LossWatch) -> None:
        """Stop, unless a loss scaler skips the step."""
        runner = self._runner
        if not any(_has_scaler(wrapper) for wrapper in _wrappers(runner.optim_wrapper)):
            self._stop(failed)
        self._skipped += 1
        spoilt = [
            name
            for name, value in bare_model(runner.model).named_buffers()
            if name not in self._infinite_buffers and not is_finite(value)
        ]
        if _anywhere(bool(spoilt), _device_of(bare_model(runner.model))):
            self._stop(failed, f'; it is in {listed(spoilt, 2)} for good, although the loss scaler skips the step')
        if self._skipped >= self.max_skipped:
            self._stop(failed, f', and no step was taken since {self._skipped} such losses')
        if self._skipped == 1:
            runner.logger.warning(
                f'the loss is not finite at iteration {runner.iter + 1} ({describe_terms(failed.terms)}); the loss '
                f'scaler skips the step, and training stops at {self.max_skipped} such losses without a step'
            )

    def _stop(self, failed: LossWatch, remark: str = '') -> None:
        """Find out what there is to say and say it."""
        runner, names = self._runner, sample_names(self._batch)
        self._in_iteration = False
        origin = None
        if failed.call is not None:
            # On every process, also where the loss is finite.
            bare = bare_model(runner.model)
            # Whose parameters are gathered by the wrapper; other wrappers have nothing to add.
            sharded = 'FullyShardedDataParallel' in type(runner.model).__name__
            origin = find_origin(runner.model if sharded else bare, bare, failed.call, len(names))
        if not failed.failed_here:
            raise TrainingStopped('', NOT_FINITE_STATUS)
        rank = f' on process {dist.get_rank()}' if _shared() else ''
        head = (
            f'the loss is not finite{rank} at iteration {runner.iter + 1} of {runner.max_iters} '
            f'({describe_terms(failed.terms)}){remark}'
        )
        if origin is None:
            where = 'the layer is not known, because the model trains without calling itself for its losses'
            cure = f'to go on, {SMALLER_STEPS}'
        else:
            where, cure = describe_origin(origin, failed.call, names, self._last_step)
        # Here all of the files, which may be hundreds.
        runner.logger.error(f'{head}; batch: {", ".join(names)}')
        raise TrainingStopped(
            f'{head}; batch: {listed_files(names) or "of unknown files"}; {where}; {self._last_checkpoint.describe()}; '
            f'{cure}, {self._last_checkpoint.again}',
            NOT_FINITE_STATUS,
        )


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _wrappers(wrapper: OptimWrapper | OptimWrapperDict) -> Iterator[OptimWrapper]:
    yield from wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _has_scaler(wrapper: OptimWrapper) -> bool:
    """Whether steps with gradients that are not finite are skipped."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    if scaler is None:
        # Apex keeps it to itself, DeepSpeed in its optimizer.
        return type(wrapper).__name__ == 'ApexOptimWrapper' or hasattr(wrapper.optimizer, 'loss_scaler')
    return scaler.is_enabled()


def _shared() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _anywhere(found: bool, device: torch.device) -> bool:
    """Whether something holds on any of the processes."""
    if not _shared():
        return found
    flag = torch.tensor(float(found), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)

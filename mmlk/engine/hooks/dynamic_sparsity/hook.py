"""Sparse training from a config."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.dist import broadcast, broadcast_object_list
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from mmlk.engine.bare_model import bare_model
from mmlk.engine.hooks.dynamic_sparsity.averages import MaskedAverages
from mmlk.engine.hooks.dynamic_sparsity.report import SparsityReport
from mmlk.engine.hooks.dynamic_sparsity.settings import HOOK, check_settings
from mmlk.engine.hooks.dynamic_sparsity.snip import score_one_batch
from mmlk.errors import UsageError
from mmlk.registry import HOOKS
from mmlk.sparsity import (
    CosinePruneRate,
    Elements,
    Kernels,
    SparseTraining,
    UpdateSchedule,
    find_path_groups,
    select_parameters,
)

#: Entry of a checkpoint that holds the masks.
CHECKPOINT_KEY = 'dynamic_sparsity'


@HOOKS.register_module()
class DynamicSparsityHook(Hook):
    """Keep a share of the weights at zero from the first step on, and exchange some of them now and then.

    The method of SLaK, PeLK and SW (arXiv 2207.03620, section 3): masks are drawn before training; every ``interval``
    optimizer steps, in each layer, the smallest active weights are switched off and as many others switched on, which
    start at zero, with their moments in the optimizer at zero. The exchanged share falls along a cosine, from
    ``prune_rate`` to 0.005 at the end of training.

    Masks are applied after every step of the optimizer itself, so any optimizer wrapper will do: mixed precision with
    steps that the loss scaler skips, accumulation, gradient clipping. They are saved in checkpoints (under
    ``'dynamic_sparsity'``), and a resumed run continues with them. All processes draw the same masks. Averages of
    ``EMAHook`` are masked as well.

    ``load_from`` is not a resume: ``'dynamic'`` and ``'fixed'`` draw new masks over the loaded weights, ``'static'``
    keeps the zeros that it finds, which is what fine-tuning a sparse checkpoint needs.

    Args:
        sparsity: Share of the weights at zero, in [0, 1); must be given except in mode ``'static'``.
        mode: ``'dynamic'``; ``'fixed'``: masks as at the beginning; ``'static'``: what is zero in the weights when
            training starts stays zero.
        init: How the layers share out the active weights: ``'snip'`` (default; by the saliency of one batch), ``'erk'``
            (the smaller a layer, the denser) or ``'uniform'``. Which weights of a layer are active is random.
        interval: Optimizer steps from one update of the masks to the next, 2000 by default.
        prune_rate: Share of the active weights that the first update exchanges, 0.5 by default.
        growth: ``'random'`` (default), or ``'gradient'`` for the weights with the largest gradients (RigL).
        scope: ``'all'``: weights with two or four axes of the backbone and of a classification head;
            ``'large_kernels'``; or a regular expression for names of weights.
        unit: ``'element'``, or ``'kernel'`` for whole kernels of convolutions, as SW does with its small ones.
        share_interval: For weights that a layer adds up, such as the paths of SW: 1: one mask for all (default of unit
            ``'kernel'``); k: one mask at the beginning and after every k-th update, each its own in between; 0: each
            its own (default of unit ``'element'``).
        exact: The number of active weights stays exactly what it is (default). ``False``: each weight is drawn on its
            own, so the number is right on average, as in the authors' code.
        seed: Of masks and growth; the seed of the runner by default.

    Note:
        The last step is not followed by an update: weights switched on there would never train.

    Raises:
        UsageError: An argument is not what it has to be, or has no meaning in the mode.

    Example:
        >>> custom_hooks = [dict(type='mmlk.DynamicSparsityHook', sparsity=0.4, init='snip', interval=2000)]
        >>> fine_tuning = [dict(type='mmlk.DynamicSparsityHook', mode='static')]
    """

    #: After hooks that replace weights or layers before training (EMA of mmpretrain, AccelerateHook).
    priority = 'BELOW_NORMAL'

    def __init__(
        self,
        sparsity: float | None = None,
        mode: str = 'dynamic',
        init: str | None = None,
        interval: int | None = None,
        prune_rate: float | None = None,
        growth: str | None = None,
        scope: str = 'all',
        unit: str = 'element',
        share_interval: int | None = None,
        exact: bool | None = None,
        seed: int | None = None,
    ) -> None:
        given = dict(
            sparsity=sparsity,
            init=init,
            interval=interval,
            prune_rate=prune_rate,
            growth=growth,
            share_interval=share_interval,
            exact=exact,
            seed=seed,
        )
        self.settings = check_settings(mode, scope, unit, given)
        self.mode = mode
        self.scope = scope
        self.unit = unit
        self.training: SparseTraining | None = None
        self._state: dict[str, Any] | None = None
        self._loaded = False
        self._handle: torch.utils.hooks.RemovableHandle | None = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Remember the masks: whether they are wanted is known when training starts."""
        self._loaded = True
        self._state = checkpoint.get(CHECKPOINT_KEY)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the masks into the checkpoint."""
        if self.training is not None:
            state = self.training.state_dict()
            state['masks'] = {name: mask.cpu() for name, mask in state['masks'].items()}
            checkpoint[CHECKPOINT_KEY] = state

    def before_train(self, runner) -> None:
        """Draw, find or restore the masks, and have them applied from now on.

        Raises:
            UsageError: No weight is in scope, the optimizer does not hold the weights themselves, or a checkpoint to
                resume from has no masks or other ones.
        """
        model = bare_model(runner.model)
        first = self.training is None
        if first:
            parameters = select_parameters(model, self.scope)
            wrapper = _wrapper_of(runner.optim_wrapper, parameters)
            steps = math.ceil(runner.max_iters / wrapper._accumulative_counts)
            self.training = self._make_training(model, parameters, steps, runner.seed)
            # runner.iter tells a resume through runner.resume(), which leaves no other mark.
            resumed = self._loaded and (runner._resume or runner.iter > 0)
            if resumed:
                self._restore(runner)
            elif self.mode == 'static':
                self._find_zeros(runner)
            else:
                self._draw_masks(runner, model, wrapper)
            self._state = None
            self._report = SparsityReport(runner, self.training)
            self._averages = MaskedAverages(runner.hooks, self.training)
            self._averages.mask()
            updates = sum(self.training.updates.due(step) for step in range(1, steps + 1))
            self._report.start(self.mode, updates, resumed)
        else:
            wrapper = _wrapper_of(runner.optim_wrapper, self.training.parameters)
        if self._handle is not None:
            self._handle.remove()
        self._handle = wrapper.optimizer.register_step_post_hook(self.after_step)

    def after_train(self, runner) -> None:
        """Leave the optimizer alone, and draw the density once more."""
        self._handle.remove()
        self._handle = None
        self._report.end()

    def _make_training(
        self, model: nn.Module, parameters: dict[str, nn.Parameter], steps: int, runner_seed: int
    ) -> SparseTraining:
        settings = self.settings
        seed = settings.get('seed')
        # With randomness.diff_rank_seed every process has another seed.
        common = torch.tensor(runner_seed if seed is None else seed, dtype=torch.int64)
        broadcast(common)
        share = settings.get('share_interval')
        if share is None:
            share = 1 if self.unit == 'kernel' else 0
        updating = self.mode == 'dynamic'
        return SparseTraining(
            parameters,
            unit=Kernels() if self.unit == 'kernel' else Elements(),
            prune_rate=CosinePruneRate(settings['prune_rate'], max(steps, 1)) if updating else None,
            updates=UpdateSchedule(settings['interval'] if updating else None, until=steps - 1),
            growth=settings.get('growth', 'random'),
            exact=settings.get('exact', True),
            seed=int(common),
            share=find_path_groups(model, list(parameters)) if share else (),
            share_interval=share,
        )

    def _draw_masks(self, runner, model: nn.Module, wrapper: OptimWrapper) -> None:
        scores, init = None, self.settings['init']
        if init == 'snip':
            loader = runner.train_dataloader
            scores = score_one_batch(model, self.training.parameters, loader, wrapper, self.training.seed)
        densities = [self.training.densities(init, self.settings['sparsity'], scores)]
        # Equal already where the sums over the processes are, which is up to the backend.
        broadcast_object_list(densities)
        self.training.init_random(densities[0])

    def _find_zeros(self, runner) -> None:
        self.training.init_static()
        if not self.training.masks:
            runner.logger.warning(
                f"{HOOK} with mode='static' found no zero in {len(self.training.parameters)} layers, so everything "
                'trains: load the checkpoint of a sparse network (load_from, or init_cfg of the model)'
            )

    def _restore(self, runner) -> None:
        if self._state is None:
            raise UsageError(
                f'a run with {HOOK} can only resume from a checkpoint with masks, and that of iteration {runner.iter} '
                'was written without the hook: to make its weights sparse, start a new run with load_from, or remove '
                'the hook'
            )
        self.training.load_state_dict(self._state)

    def after_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        """Count a step and apply the masks; the optimizer calls it after it has changed the weights."""
        # Fused optimizers are called by the loss scaler in any case and find out themselves that they have to skip.
        found_inf = getattr(optimizer, 'found_inf', None)
        if found_inf is not None and bool(found_inf):
            return
        # Each process has the moments of its share of the weights, in an optimizer inside.
        inner = optimizer.optim if isinstance(optimizer, ZeroRedundancyOptimizer) else optimizer
        report = self.training.after_step(inner)
        if self.training.updates.due(self.training.steps - 1):
            self._averages.start_grown()
        if report is not None:
            self._averages.mask()
            self._report.update(report)


def _wrapper_of(wrapper: OptimWrapper | OptimWrapperDict, parameters: dict[str, nn.Parameter]) -> OptimWrapper:
    """The optimizer wrapper that trains all of the parameters.

    Raises:
        UsageError: There is none.
    """
    wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    held = [{id(p) for group in each.optimizer.param_groups for p in group['params']} for each in wrappers]
    missing = [[name for name, p in parameters.items() if id(p) not in ids] for ids in held]
    best = min(range(len(wrappers)), key=lambda index: len(missing[index]))
    if missing[best]:
        raise UsageError(
            f'{HOOK} needs one optimizer that holds all {len(parameters)} weights in scope themselves, and '
            f'{len(missing[best])} are not in it, such as {missing[best][0]}: narrow scope to the weights of one '
            'optimizer, and train without FSDP, DeepSpeed and Apex, which keep copies'
        )
    return wrappers[best]

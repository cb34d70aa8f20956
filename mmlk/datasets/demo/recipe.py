"""Shorten a training recipe: the part of ``--demo`` that does not depend on the host or the data.

Every function edits a plain nested dictionary in place. None touches depth, width, kernel, head or loss.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from mmlk.errors import UsageError

ITERATIONS_VARIABLE = 'MMLK_DEMO_ITERS'
ROOT_VARIABLE = 'MMLK_DEMO_ROOT'
DEFAULT_ITERATIONS = 120
DEFAULT_ROOT = Path('data', 'demo')

# From random weights a short run needs larger steps than fine-tuning does.
LEARNING_RATES = {'AdamW': 2e-3, 'Adam': 2e-3, 'SGD': 1e-2}
WARM_UP = 0.1
LOG_INTERVAL = 10
# Of sparse training: masks change so many times, and paths get a common one at every third change.
MASK_UPDATES = 10
MASK_SHARING = 3


@dataclass(frozen=True)
class DemoSettings:
    """What every host adapter is told.

    Attributes:
        root: Folder below which demo data is generated.
        iterations: Optimiser steps wanted.
        cuda: Whether a CUDA device is there.
        size: Side of pictures and crops in pixels.
        batch_size: Pictures per step.
        num_train: Training pictures.
        num_val: Validation pictures.
    """

    root: Path
    iterations: int
    cuda: bool
    size: int = 128
    batch_size: int = 4
    num_train: int = 240
    num_val: int = 40

    @property
    def epochs(self) -> int:
        """Passes over the data that epoch-based loops make; each is cut to ``images_per_epoch``."""
        return ceil(self.iterations * self.batch_size / self.num_train)

    @property
    def images_per_epoch(self) -> int:
        """Pictures per pass such that the passes together come to ``iterations`` steps, rounded up."""
        return min(self.num_train, ceil(self.iterations / self.epochs) * self.batch_size)


def read_iterations(iterations: int | None, default: int = DEFAULT_ITERATIONS) -> int:
    """Return the argument, else the environment's ``MMLK_DEMO_ITERS``, else the default.

    Raises:
        UsageError: Not a positive integer.
    """
    name, value = 'iterations', iterations
    if iterations is None:
        name, value = ITERATIONS_VARIABLE, os.environ.get(ITERATIONS_VARIABLE)
        if value is None:
            return default
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f'{name} must be a positive number of iterations, got {value!r}.')
    return number


def type_name(node: Any) -> str:
    """Return the bare class name of a config node: ``'mmseg.ADE20KDataset'`` gives ``'ADE20KDataset'``."""
    kind = node.get('type', '') if isinstance(node, dict) else ''
    return getattr(kind, '__name__', str(kind)).rsplit('.', 1)[-1]


def as_list(node: Any) -> list:
    """Return a list where configs allow one dictionary, several, or none."""
    if not node:
        return []
    return list(node) if isinstance(node, (list, tuple)) else [node]


def is_epoch_based(cfg: dict) -> bool:
    """Tell whether the training loop counts epochs rather than iterations.

    Raises:
        UsageError: It counts neither.
    """
    loop = cfg['train_cfg']
    if 'max_epochs' in loop:
        return True
    if 'max_iters' in loop:
        return False
    raise UsageError(f'The demo needs train_cfg to set max_iters or max_epochs, got {sorted(loop)}.')


def shorten_recipe(cfg: dict, settings: DemoSettings) -> None:
    """Make the recipe of any host short, from scratch and fit for the machine at hand."""
    model = cfg.get('model')
    if isinstance(model, dict):
        forget_pretraining(cfg)
        if not settings.cuda:
            replace_sync_bn(cfg)
        backbone = model.get('backbone')
        if isinstance(backbone, dict) and backbone.get('drop_path_rate'):
            backbone['drop_path_rate'] = 0.0
    if cfg.get('train_cfg'):
        shorten_schedule(cfg, settings)
    if cfg.get('optim_wrapper'):
        adapt_optimizer(cfg['optim_wrapper'], settings.cuda)
    randomness = cfg.setdefault('randomness', {})
    if randomness.get('seed') is None:
        randomness['seed'] = 0


def _nodes(node: Any) -> Iterator[dict]:
    """Visit every dictionary of a nested config."""
    if isinstance(node, dict):
        yield node
        children = node.values()
    elif isinstance(node, (list, tuple)):
        children = node
    else:
        return
    for child in list(children):
        yield from _nodes(child)


def replace_sync_bn(cfg: dict) -> None:
    """Turn every SyncBN of a config into BN: SyncBN needs CUDA."""
    for node in _nodes(cfg):
        if type_name(node) in ('SyncBN', 'MMSyncBN', 'SyncBatchNorm'):
            node['type'] = 'BN'


def forget_pretraining(cfg: dict) -> None:
    """Start from random weights, so that nothing is downloaded and nothing is known beforehand."""
    for node in _nodes(cfg['model']):
        init = as_list(node.get('init_cfg'))
        if any(type_name(step) == 'Pretrained' for step in init):
            kept = [step for step in init if type_name(step) != 'Pretrained']
            node['init_cfg'] = kept or None
    if cfg['model'].get('pretrained'):
        cfg['model']['pretrained'] = None
    if cfg.get('load_from'):
        cfg['load_from'] = None


def adapt_optimizer(wrapper: dict, cuda: bool) -> None:
    """Set a learning rate for a short run from scratch; without CUDA, leave mixed precision out.

    Layer decay keeps early layers near their pretrained weights; there are none, so every layer learns alike.
    """
    optimizer = wrapper.get('optimizer', {})
    rate = LEARNING_RATES.get(type_name(optimizer))
    if rate is not None:
        optimizer['lr'] = rate
    paramwise = wrapper.get('paramwise_cfg') or {}
    for key in ('layer_decay_rate', 'decay_rate'):
        if key in paramwise:
            paramwise[key] = 1.0
    wrapper.pop('accumulative_counts', None)
    if not cuda and type_name(wrapper) == 'AmpOptimWrapper':
        wrapper['type'] = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)


def shorten_schedule(cfg: dict, settings: DemoSettings) -> None:
    """Shorten loop, parameter schedulers and hooks; validate and save once, at the end."""
    loop, epochs = cfg['train_cfg'], is_epoch_based(cfg)
    key, length = ('max_epochs', settings.epochs) if epochs else ('max_iters', settings.iterations)
    old_length, loop[key] = loop[key], length
    loop['val_interval'] = length
    for other in ('val_begin', 'dynamic_intervals'):
        loop.pop(other, None)

    schedulers = as_list(cfg.get('param_scheduler'))
    own = [scheduler for scheduler in schedulers if scheduler.get('by_epoch', True) == epochs]
    if epochs:
        # Counted in iterations among epochs: a warm-up. How long the recipe's epochs were is not in the config.
        warm_up = [scheduler for scheduler in schedulers if scheduler not in own]
        old_warm_up = max((scheduler.get('end', 0) for scheduler in warm_up), default=0) or 1
        if own:
            _move(warm_up, lambda time: time * _warm_up(settings.iterations) / old_warm_up)
        else:
            # All counted in iterations, as a demo leaves them: they end with the run.
            own, old_length = warm_up, old_warm_up
        # A run of one or two epochs has room for a schedule in iterations only.
        length = settings.epochs * settings.images_per_epoch // settings.batch_size
        for scheduler in own:
            scheduler['by_epoch'] = False
            scheduler.pop('convert_to_iter_based', None)
    _move(own, _timeline(own, old_length, length))

    hooks = cfg.get('default_hooks') or {}
    if hooks.get('logger'):
        hooks['logger']['interval'] = min(LOG_INTERVAL, settings.iterations)
    checkpoint = hooks.get('checkpoint')
    if checkpoint:
        checkpoint['interval'] = settings.epochs if checkpoint.get('by_epoch', True) else settings.iterations
    for hook in as_list(cfg.get('custom_hooks')):
        if type_name(hook) == 'EMAHook':
            # An average over the last tenth of the run; the recipe's own would still be the initial weights.
            hook['momentum'] = min(0.5, 1 / (WARM_UP * settings.iterations))
            hook['interval'] = 1
        elif type_name(hook) == 'DynamicSparsityHook' and hook.get('mode', 'dynamic') == 'dynamic':
            # The recipe's interval may be longer than the whole demo, and the masks would never change.
            longest = max(1, settings.iterations // MASK_UPDATES)
            hook['interval'] = min(hook.get('interval') or longest, longest)
            if hook.get('share_interval', 0) > MASK_SHARING:
                hook['share_interval'] = MASK_SHARING


def _warm_up(length: int) -> float:
    """Iterations of warm-up: at least two, because MMEngine reaches the full rate at the last of them."""
    return max(2, WARM_UP * length)


def _timeline(schedulers: list[dict], old_length: int, length: int) -> Callable[[float], float]:
    """Map times of the recipe to times of the demo: warm-up to 10 % of the run, the rest in proportion."""
    ends = [
        scheduler['end']
        for scheduler in schedulers
        if scheduler.get('begin', 0) == 0 and 0 < scheduler.get('end', old_length) < old_length
    ]
    old_warm_up = min(ends, default=0)
    warm_up = _warm_up(length) if old_warm_up else 0

    def move(time: float) -> float:
        if time <= old_warm_up:
            return time * warm_up / max(old_warm_up, 1)
        return warm_up + (time - old_warm_up) * (length - warm_up) / (old_length - old_warm_up)

    return move


def _move(schedulers: list[dict], move: Callable[[float], float]) -> None:
    """Move every time that parameter schedulers mention to a whole iteration."""
    for scheduler in schedulers:
        begin = scheduler.get('begin', 0)
        for key in ('T_max', 'total_steps', 'step_size'):
            if key in scheduler:
                scheduler[key] = max(1, round(move(begin + scheduler[key])) - round(move(begin)))
        if 'milestones' in scheduler:
            scheduler['milestones'] = [round(move(time)) for time in scheduler['milestones']]
        for key in ('begin', 'end'):
            if key in scheduler:
                scheduler[key] = round(move(scheduler[key]))
        if 'end' in scheduler:
            # MMEngine refuses an empty span, which rounding can make of a short one.
            scheduler['end'] = max(scheduler['end'], scheduler.get('begin', 0) + 1)

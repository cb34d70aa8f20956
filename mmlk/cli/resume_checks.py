"""What is wrong with a checkpoint that a run is to go on from, said before the run does."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from mmengine.runner import Runner

from mmlk.cli.sentences import sentence_of
from mmlk.errors import UsageError

#: Entries of optimizers that have the shape of their parameter, where they are there.
MOMENTS = ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'momentum_buffer')


def explain_resume(runner: Runner) -> None:
    """Let ``runner.resume`` name the file where it fails, or where what it took would fail in the first iteration.

    Args:
        runner: Changed in place.
    """
    resume = runner.resume

    def resume_named(filename: str, *args, **kwargs) -> None:
        try:
            resume(filename, *args, **kwargs)
        except (UsageError, MemoryError):
            raise
        except Exception as error:
            problem = f'{sentence_of(error)} ({type(error).__name__})'
            raise UsageError(f'{filename} cannot be resumed from: {problem}; {_ADVICE}') from error
        problem = find_unusable_state(getattr(runner.optim_wrapper, 'optimizer', None))
        if problem:
            raise UsageError(f'{filename} cannot be resumed from: {problem}; {_ADVICE}')

    runner.resume = resume_named


def find_unusable_state(optimizer: torch.optim.Optimizer | None) -> str:
    """What is wrong with the state that an optimizer has loaded, ``''`` where nothing is.

    Args:
        optimizer: Its learning rates have to be numbers, its moments of the shape of their parameters.
    """
    if optimizer is None:
        return ''
    for index, group in enumerate(optimizer.param_groups):
        rate = group.get('lr')
        if not _is_number(rate):
            return f'the learning rate of group {index} of its optimizer is {rate!r:.80}'
    for parameter, state in optimizer.state.items():
        if not isinstance(state, dict):
            return f'the state of a parameter in its optimizer is {type(state).__name__}'
        for name, value in state.items():
            if isinstance(value, str) or name == 'step' and not _is_number(value):
                return f'{name} of a parameter in its optimizer is {value!r:.80}'
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else None
            if name in MOMENTS and value is not None and shape != tuple(parameter.shape):
                return f'{name} of a parameter {tuple(parameter.shape)} in its optimizer has shape {shape}'
    return ''


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and not value.is_complex() and bool(value.isfinite())
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


_ADVICE = 'resume from another checkpoint, or start a new run with load_from'

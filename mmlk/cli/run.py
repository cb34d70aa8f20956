"""Building and checking a runner."""

from __future__ import annotations

import os

import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmlk.checkpoints.fit import require_fit, unwrap_state_dict
from mmlk.errors import UsageError


def build_runner(cfg: Config, *loops: str) -> Runner:
    """The runner of a config, of the type in ``runner_type`` where there is one.

    Args:
        cfg: Config.
        *loops: Loops to build now, with their data sets, such as ``'train_loop'``. MMEngine would build them when
            training starts; here, mistakes in them are found together with all others.
    """
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for loop in loops:
        getattr(runner, loop)
    return runner


def enable_amp(cfg: Config) -> None:
    """Train in mixed precision.

    Raises:
        UsageError: There is no CUDA device, or the optimizer wrapper has no mixed-precision form.
    """
    if not torch.cuda.is_available():
        raise UsageError('--amp needs a CUDA device, found none; leave it out to train in float32')
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UsageError(f'--amp works with optim_wrapper.type OptimWrapper, got {kind}')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def require_file(checkpoint: str) -> None:
    """Raise ``UsageError`` if a checkpoint on this machine is not there; asked before anything is built."""
    if '://' not in checkpoint and not os.path.isfile(os.path.expanduser(checkpoint)):
        raise UsageError(f'expected a checkpoint file, found none at {checkpoint}; correct the path')


def require_checkpoint_fits(runner: Runner, checkpoint: str) -> None:
    """Raise unless the checkpoint holds exactly the weights of the runner's model.

    Raises:
        UsageError: It does not; the message lists what does not match.
        FileNotFoundError: There is no such file.
    """
    weights = unwrap_state_dict(CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu'))
    require_fit(_bare(runner.model), weights, checkpoint)


def require_resumable(runner: Runner, checkpoint: str | None) -> None:
    """Raise if a run is to resume from a checkpoint of another network; nothing to check where it starts afresh.

    Args:
        runner: The runner.
        checkpoint: What to resume from, or ``None`` for the last checkpoint of the work directory, if any.
    """
    checkpoint = checkpoint or find_latest_checkpoint(runner.work_dir)
    if checkpoint is not None:
        require_checkpoint_fits(runner, checkpoint)


def _bare(model: nn.Module) -> nn.Module:
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model

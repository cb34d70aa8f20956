"""Building and checking a runner."""

from __future__ import annotations

import copy
import difflib
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmlk.checkpoints.fit import require_fit, unwrap_state_dict
from mmlk.checkpoints.resumable import find_newest_resumable, load_resumable
from mmlk.datasets.check.annotations import require_sound_annotations
from mmlk.datasets.samples import name_samples
from mmlk.errors import UsageError


def build_runner(cfg: Config, *loops: str) -> Runner:
    """The runner of a config, of the type in ``runner_type`` where there is one.

    Args:
        cfg: Config.
        *loops: Loops to build now, with their data sets, such as ``'train_loop'``. MMEngine would build them when
            training starts; here, mistakes in them are found together with all others.
    """
    if cfg.get('launcher', 'none') != 'none' or 'strategy' in cfg:
        # Here, because importing the engine takes seconds.
        from mmlk.engine.processes import start_processes

        start_processes(cfg)
    require_known_keys(cfg)
    require_whole_parts(cfg)
    require_work_dir(cfg.get('work_dir'))
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for loop in loops:
        with _explained_data(runner, cfg, loop.replace('loop', 'dataloader')):
            getattr(runner, loop)
    return runner


def require_known_keys(cfg: Config) -> None:
    """Raise if a key that MMEngine reads is missing and the config has one that differs by a letter or two.

    MMEngine takes no notice of a key that it does not know: with ``custom_hoks`` a run would go on without its hooks.

    Raises:
        UsageError: Names both.
    """
    known = [name for name in inspect.signature(Runner).parameters if name not in cfg]
    for key in cfg:
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
        if close:
            raise UsageError(f'the config has {key}, which nothing reads, and no {close[0]}; rename one to the other')


def require_whole_parts(cfg: Config) -> None:
    """Raise if a config has a part of what training, validation or a test needs.

    Raises:
        UsageError: Names what is there and what is missing.
    """
    for part, last in (('train', 'optim_wrapper'), ('val', 'val_evaluator'), ('test', 'test_evaluator')):
        keys = (f'{part}_dataloader', f'{part}_cfg', last)
        missing = [key for key in keys if cfg.get(key) is None]
        if 0 < len(missing) < len(keys):
            present = ' and '.join(key for key in keys if key not in missing)
            raise UsageError(
                f'the config has {present} and no {" and no ".join(missing)}; they are needed together, or none of them'
            )


def require_work_dir(work_dir: Any) -> None:
    """Raise unless a work directory is there and can be written to, or can be made.

    Raises:
        UsageError: It is no path, a file is in its way, or it is in a place that cannot be written to.
    """
    try:
        path = _nearest(Path(work_dir).absolute())
        problem = '' if os.access(path, os.W_OK) else f'{path} cannot be written to'
        problem = problem if path.is_dir() else f'{path} is no folder'
    except (TypeError, ValueError, OSError) as error:
        problem = str(error)
    if problem:
        raise UsageError(f'the work directory {work_dir!r} cannot be used: {problem}; give another with --work-dir')


def _nearest(path: Path) -> Path:
    """A path, or the nearest one above it that is there.

    Raises:
        OSError: It cannot be one, such as a name that is too long.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _nearest(path.parent)
    return path


@contextmanager
def _explained_data(runner: Runner, cfg: Config, loader: str) -> Iterator[None]:
    """Let the data set that is built in the block name the files it cannot use, now and while it is read.

    Loops start the workers of their DataLoader when they are built: the data set has to be ready before.
    """
    build = runner.build_dataloader

    def build_named(*args, **kwargs):
        try:
            dataloader = build(*args, **kwargs)
        except Exception as error:
            # Parsing all of a file again takes a while, so it is done only where something is wrong.
            require_sound_annotations(cfg, loader)
            if 'need at least one array' in str(error):
                # What numpy says when MMEngine packs a data set of nothing.
                raise UsageError(_nothing_left(cfg, loader)) from error
            raise
        name_samples(dataloader.dataset, loader)
        return dataloader

    runner.build_dataloader = build_named
    try:
        yield
    finally:
        del runner.build_dataloader


def _nothing_left(cfg: Config, loader: str) -> str:
    """The sentence for a data set without a sample."""
    dataset = cfg[loader].dataset
    labels = f' of {dataset.ann_file}' if dataset.get('ann_file') else ''
    return (
        f'{loader} has no sample: its annotations{labels} are of no picture in it, or filter_cfg, metainfo.classes and '
        'indices leave out all; correct them, tools/check_data.py says what is in the data'
    )


def enable_amp(cfg: Config) -> None:
    """Train in mixed precision.

    Raises:
        UsageError: There is no CUDA device, or the optimizer wrapper has no mixed-precision form.
    """
    if not torch.cuda.is_available():
        raise UsageError('--amp needs a CUDA device, found none; leave it out to train in float32')
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if _uses_deepspeed(cfg):
        raise UsageError('--amp does not work with DeepSpeed; leave it out and set strategy.bf16 or strategy.fp16')
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
    weights = unwrap_state_dict(CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu'), checkpoint)
    # A flexible runner builds its model when it starts.
    model = runner.model if isinstance(runner.model, nn.Module) else MODELS.build(copy.deepcopy(runner.model))
    require_fit(_bare(model), weights, checkpoint)


def choose_checkpoint(cfg: Config, asked: str | None) -> None:
    """Set in the config what a run is to resume from, and say so.

    Args:
        cfg: Config; ``resume`` and ``load_from`` may be set.
        asked: A path, ``'auto'`` for the newest checkpoint of the work directory that can be read, or ``None`` for what
            the config says. Where there is no checkpoint, the run starts from its beginning.

    Raises:
        UsageError: The checkpoint cannot be resumed from, or none of those in the work directory can.
    """
    if asked is None:
        if not cfg.get('resume'):
            return
        asked = cfg.get('load_from') or 'auto'
    if _uses_deepspeed(cfg):
        raise UsageError(
            '--resume takes checkpoint files; DeepSpeed writes folders of pickles, which are not loaded here; train '
            'with configs/_base_/strategies/fsdp.py to resume'
        )
    if asked != 'auto':
        require_file(asked)
        if '://' not in asked:
            load_resumable(asked)
        cfg.resume, cfg.load_from = True, asked
        return
    path, refused = find_newest_resumable(cfg.work_dir)
    if path is None and refused:
        raise UsageError(
            f'expected a checkpoint to resume from in {cfg.work_dir}, and none of {len(refused)} can be read; '
            f'start a new run in another --work-dir, or mend: {"; ".join(refused)}'
        )
    if int(os.environ.get('RANK', 0)) == 0:
        for reason in refused:
            print(f'not resumed from: {reason}')
        print(
            f'resuming from {path}' if path else f'no checkpoint in {cfg.work_dir}: starting from the beginning',
            flush=True,
        )
    cfg.resume = path is not None
    if path is not None:
        cfg.load_from = str(path)


def drop_strategy(cfg: Config) -> None:
    """Test without FSDP or DeepSpeed: there is no optimizer to share out, and their networks cannot be fused."""
    if cfg.get('runner_type') == 'FlexibleRunner':
        cfg.pop('runner_type')
        cfg.pop('strategy', None)


def _uses_deepspeed(cfg: Config) -> bool:
    return (cfg.get('strategy') or {}).get('type') == 'DeepSpeedStrategy'


def _bare(model: nn.Module) -> nn.Module:
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model

"""A fused checkpoint and the config that loads it: both are tried out before they get their names."""

from __future__ import annotations

import argparse
import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmlk.analysis.equivalence import TOLERANCE, compare_forms
from mmlk.checkpoints.fit import require_fit
from mmlk.cli.reparam.inputs import Input
from mmlk.cli.reparam.model import Source, build_model
from mmlk.datasets.demo.recipe import forget_pretraining
from mmlk.errors import UsageError
from mmlk.models import BaseLargeKernelBackbone
from mmlk.models.fused_model import shrunk_parts
from mmlk.version import __version__

SUFFIXES = ('.pth', '.pt')
#: Hooks of a training config that act on weights in tests too, which are the averaged and fused ones here.
_WEIGHT_HOOKS = ('EMAHook', 'SwitchToDeployHook', 'mmlk.SwitchToDeployHook')


def check_targets(out: Path, sources: Sequence[str], force: bool) -> None:
    """Raise ``UsageError`` unless the checkpoint and the config can be written; asked before anything is built.

    Args:
        out: Checkpoint to write.
        sources: Files that are read, which are never overwritten.
        force: Whether other files may be.
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f'OUT is the fused checkpoint and must end in {" or ".join(SUFFIXES)}, got {out}')
    for path in (out, out.with_suffix('.py')):
        if path.is_dir():
            raise UsageError(f'{path} is a directory: give the name of a file to write')
        if not path.exists():
            continue
        if any(Path(source).exists() and path.samefile(source) for source in sources):
            raise UsageError(f'{path} would replace what is fused: give another OUT')
        if not force:
            raise UsageError(f'{path} exists: give another OUT, or --force to replace it')


def write_fused(out: Path, source: Source, fused: nn.Module, args: argparse.Namespace, inputs: Sequence[Input]) -> None:
    """Write OUT and OUT with .py, load them as a user would and compare once more, then give them their names.

    Args:
        out: Fused checkpoint to write.
        source: The train form.
        fused: The fused form.
        args: ``form``, ``deep``, ``shrink``, ``config`` and ``checkpoint`` of the command line.
        inputs: Images on which what was written is compared.

    Raises:
        UsageError: They cannot be written there, or no config builds this fused form.
    """
    folder = out.parent / f'.{out.stem}.{os.getpid()}.part'
    try:
        folder.mkdir(parents=True)
        try:
            checkpoint, config = folder / out.name, folder / f'{out.stem}.py'
            weights = _own(fused.float().state_dict())
            model = _write_config(config, source, weights, args, out.name, shrunk_parts(fused))
            fused_as = {name: getattr(args, name) for name in ('form', 'deep', 'shrink', 'config', 'checkpoint')}
            meta = source.meta | {'cfg': config.read_text(), 'mmlk_version': __version__, 'mmlk_fused': fused_as}
            torch.save({'meta': meta, 'state_dict': weights}, checkpoint)
            _try_out(checkpoint, model, source.model, inputs)
            os.replace(checkpoint, out)
            os.replace(config, out.with_suffix('.py'))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise UsageError(f'{out} could not be written ({error.strerror}): give a place that can be') from error


def deploy_configs(cfg: Config, model: nn.Module, form: str, deep: bool, shrunk: dict[str, list]) -> list[Config]:
    """Configs of the fused form of a model, the plainest first: ``deploy`` of the backbone, or the whole model fused.

    Args:
        cfg: Config of the train form.
        model: What it builds.
        form: Fused form.
        deep: Whether BatchNorms of heads are folded too, which no host has a setting for.
        shrunk: What was cut out of the fused mixers.
    """
    base = cfg.to_dict()
    for key in ('work_dir', 'launcher', 'load_from', 'resume'):
        base.pop(key, None)
    forget_pretraining(base)
    hooks = [hook for hook in base.get('custom_hooks') or [] if hook['type'] not in _WEIGHT_HOOKS]
    if 'custom_hooks' in base:
        base['custom_hooks'] = hooks
    imports = base.setdefault('custom_imports', {'imports': [], 'allow_failed_imports': False})
    if 'mmlk' not in imports['imports']:
        imports['imports'] = [*imports['imports'], 'mmlk']
    candidates = []
    if not (deep or shrunk) and isinstance(getattr(model, 'backbone', None), BaseLargeKernelBackbone):
        plain = copy.deepcopy(base)
        plain['model']['backbone']['deploy'] = True if form == 'auto' else form
        candidates.append(plain)
    whole = copy.deepcopy(base)
    network = whole['model'].pop('type')
    whole['model'] = {'type': 'mmlk.FusedModel', 'network': network, 'form': form, 'deep': deep, **whole['model']}
    if shrunk:
        whole['model']['shrunk'] = shrunk
    candidates.append(whole)
    return [Config(ConfigDict(candidate)) for candidate in candidates]


def _write_config(
    path: Path, source: Source, weights: dict[str, Tensor], args: argparse.Namespace, name: str, shrunk: dict[str, list]
) -> nn.Module:
    """Write the first config whose model has exactly the keys and shapes of the fused weights; the model of the file.

    Raises:
        UsageError: There is none.
    """
    header = (
        f'# The fused form of {args.config}, written by tools/reparam.py (mmlk {__version__}) for\n'
        f'# {name}, which has the weights of {args.checkpoint}.\n'
        '# For tests and inference: it is not trained further.\n'
    )
    problem = None
    for cfg in deploy_configs(source.cfg, source.model, args.form, args.deep, shrunk):
        path.write_text(header + cfg.pretty_text)
        model = build_model(Config.fromfile(path))
        try:
            require_fit(model, weights, 'the fused checkpoint')
            return model
        except UsageError as error:
            problem = error
    raise UsageError(f'no deploy config builds this fused form: {problem}')


def _try_out(checkpoint: Path, model: nn.Module, reference: nn.Module, inputs: Sequence[Input]) -> None:
    """Load the file into the model of the deploy config and compare it with the train form.

    Raises:
        UsageError: It gives other outputs.
    """
    content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu', logger='silent')
    model.load_state_dict(content['state_dict'])
    comparison = compare_forms(reference, model, inputs, {torch.float32: TOLERANCE[torch.float32]})
    part, difference = comparison.worst(torch.float32)
    if not comparison.equal:
        raise UsageError(
            f'the files that were written give other outputs than the train form ({difference.relative:.2g} in {part}, '
            f'allowed {TOLERANCE[torch.float32]:g}); nothing is left behind'
        )


def _own(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with storage of their own; saving a view would save all it is a view of."""
    return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in weights.items()}

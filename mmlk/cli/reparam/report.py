"""What ``tools/reparam.py`` measures and prints."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmengine.config import Config
from torch import nn

from mmlk.analysis.complexity import count_params
from mmlk.analysis.equivalence import Comparison
from mmlk.analysis.form_complexity import count_form_macs
from mmlk.benchmarks.synthetic import make_data
from mmlk.benchmarks.timing import Clock, interleave, make_clock
from mmlk.cli.grid import Grid

#: Seconds of measurement per form and part.
SECONDS = 1.5


@dataclass(frozen=True)
class Costs:
    """Size and speed of the train form and of the fused form, in this order.

    Attributes:
        params: Parameters.
        macs: What was run -> multiply-accumulates of one image.
        milliseconds: What was run -> median time of one image.
        image: (H, W) in pixels.
        device: Where it ran.
    """

    params: tuple[int, int]
    macs: dict[str, tuple[int, int]]
    milliseconds: dict[str, tuple[float, float]]
    image: tuple[int, int]
    device: str


def measure_forms(
    cfg: Config,
    train: nn.Module,
    fused: nn.Module,
    image: tuple[int, int],
    device: str,
) -> Costs:
    """Count and time one forward pass of both forms in turns, float32, without pre- and post-processing.

    Args:
        cfg: Config of the models.
        train: Train form, float32; both models come back on the CPU.
        fused: Fused form, float32.
        image: (H, W) of the random image.
        device: ``'cpu'`` or ``'cuda'``.
    """
    clock = make_clock(device)
    macs, milliseconds = {}, {}
    models = [model.to(device).eval() for model in (train, fused)]
    for part, run in _runs(cfg, train, image, device).items():
        macs[part] = tuple(count_form_macs(model, run) for model in models)
        milliseconds[part] = _time(clock, run, *models)
    params = tuple(count_params(model.cpu()) for model in models)
    return Costs(params, macs, milliseconds, image, device)


def print_comparison(comparison: Comparison, name: str, reference: str = 'train form') -> None:
    """Print differences per part, and the verdict.

    Args:
        comparison: Of two forms, in two precisions.
        name: What the compared form is called.
        reference: What it is compared with.
    """
    wide, narrow = comparison.parts
    rows = []
    for part, exact in comparison.parts[wide].items():
        rounded = comparison.parts[narrow][part]
        values = (exact.absolute, exact.relative, rounded.absolute, rounded.relative)
        rows.append((part, *(f'{value:.1e}' for value in values)))
    columns = ['part']
    for dtype in (wide, narrow):
        columns += [f'{_short(dtype)}, largest |a - b|', f'{_short(dtype)}, ||a - b|| / ||b||']
    notes = ['on ' + _listed(comparison.inputs)]
    if comparison.skipped:
        notes.append(f'not compared, as they take more than feature maps: {", ".join(comparison.skipped)}')
    Grid(f'{name} (a) against {reference} (b)', columns, rows, [*notes, verdict(comparison)]).print()


def print_costs(costs: Costs, name: str) -> None:
    """Print sizes and times of both forms."""
    size = f'{costs.image[0]} x {costs.image[1]}'
    rows = [('parameters (M)', *(f'{count / 1e6:.2f}' for count in costs.params), '')]
    for part, pair in costs.macs.items():
        rows.append((f'multiply-accumulates (G), {part}, {size}', *(f'{count / 1e9:.3g}' for count in pair), ''))
    for part, (train, fused) in costs.milliseconds.items():
        title = f'time (ms), {part}, {size}, {costs.device}'
        rows.append((title, f'{train:.1f}', f'{fused:.1f}', f'{train / fused:.2f} x'))
    Grid('one image', ['', 'train form', name, 'faster'], rows).print()


def verdict(comparison: Comparison) -> str:
    """One sentence: do the forms agree?"""
    findings = []
    for dtype, limit in comparison.limits.items():
        part, difference = comparison.worst(dtype)
        where = f' in {part} on {difference.input}' if difference.relative > limit else ''
        findings.append(f'{difference.relative:.1e}{where} in {_short(dtype)} (allowed {limit:.0e})')
    found = ' and '.join(findings)
    if comparison.equal:
        return f'equal: ||a - b|| / ||b|| is at most {found}'
    return f'DIFFERENT: ||a - b|| / ||b|| is {found}; nothing was written'


def _runs(cfg: Config, model: nn.Module, image: tuple[int, int], device: str) -> dict[str, Callable]:
    """What is run on a model, by name: its backbone, and the whole network."""
    images = torch.randn(1, 3, *image, generator=torch.Generator().manual_seed(0)).to(device)
    arguments = (images,)
    if cfg.get('default_scope') == 'mmdet':
        data = model.data_preprocessor(copy.deepcopy(make_data('mmdet', cfg.model, 1, image)), False)
        arguments = (data['inputs'], data['data_samples'])

    def network(model: nn.Module) -> object:
        with torch.no_grad():
            return model(*arguments, mode='tensor')

    def backbone(model: nn.Module) -> object:
        with torch.no_grad():
            return model.backbone(images)

    return ({'backbone': backbone} if hasattr(model, 'backbone') else {}) | {'network': network}


def _time(clock: Clock, run: Callable, train: nn.Module, fused: nn.Module) -> tuple[float, float]:
    # Both have run before, to be counted.
    runs = {'ours': lambda: run(fused), 'train': lambda: run(train)}
    estimates = {name: clock.time(step)() for name, step in runs.items()}
    ours, others = interleave(clock, runs['ours'], {'train': runs['train']}, estimates, SECONDS)
    return others['train'].median_ms, ours.median_ms


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')


def _listed(names: list[str], limit: int = 6) -> str:
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more

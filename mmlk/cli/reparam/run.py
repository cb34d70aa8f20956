"""The run behind ``tools/reparam.py``: load, fuse, compare, measure, write."""

from __future__ import annotations

import argparse

import torch
from torch import nn

from mmlk.analysis.equivalence import SHRUNK_TOLERANCE, TOLERANCE, compare_forms
from mmlk.cli.config import load_config
from mmlk.cli.device import resolve_device
from mmlk.cli.progress import make_progress
from mmlk.cli.reparam.files import check_targets, write_fused
from mmlk.cli.reparam.inputs import SIZES, Input, picture_inputs, random_inputs
from mmlk.cli.reparam.model import fuse, load_source, shrink
from mmlk.cli.reparam.report import measure_forms, print_comparison, print_costs
from mmlk.cli.run import require_file

#: The status of a run in which the two forms differ.
DIFFERENT_STATUS = 1
#: Edge of the square image that is timed, by host.
LATENCY_EDGE = {'mmpretrain': 224}
DEFAULT_LATENCY_EDGE = 512


def run(args: argparse.Namespace) -> int:
    """Fuse the model of a config and a checkpoint as the arguments say; the exit status.

    Raises:
        UsageError: An argument, the config or the checkpoint cannot be used.
    """
    device = resolve_device(args.device)
    require_file(args.checkpoint)
    check_targets(args.out, [args.checkpoint, args.config], args.force)
    cfg = load_config(args)
    source = load_source(cfg, args.checkpoint)
    fused = fuse(source.model, args.form, args.deep)
    if args.verify_images is not None:
        inputs = picture_inputs(cfg, source.model.data_preprocessor, args.verify_images, args.num_images)
    else:
        inputs = random_inputs(args.sizes or SIZES)
    edge = LATENCY_EDGE.get(cfg.get('default_scope'), DEFAULT_LATENCY_EDGE)
    image = args.latency_size or (edge, edge)
    name = f'fused ({args.form}{" and deep" if args.deep else ""})'
    if not _compare(source.model, fused, inputs, TOLERANCE, name, 'train form'):
        return DIFFERENT_STATUS
    shrunk = shrink(fused, image) if args.shrink else None
    if shrunk is not None:
        if not _compare(fused, shrunk, inputs, SHRUNK_TOLERANCE, 'shrunk', name):
            return DIFFERENT_STATUS
        fused, name = shrunk, 'shrunk'
    with make_progress() as progress:
        task = progress.add_task('measuring', total=None)
        costs = measure_forms(cfg, source.model, fused, image, device)
        progress.update(task, total=1, completed=1)
    print_costs(costs, name)
    if source.dtype != torch.float32:
        dtype = str(source.dtype).removeprefix('torch.')
        print(f'the weights of {args.checkpoint} are {dtype}; the fused ones are written as float32')
    write_fused(args.out, source, fused, args, inputs[:1])
    print(f'fused checkpoint  {args.out}\ndeploy config     {args.out.with_suffix(".py")}')
    return 0


def _compare(reference: nn.Module, other: nn.Module, inputs: list[Input], limits: dict, *names: str) -> bool:
    """Compare two forms while a bar shows how far it is, print what was found; whether they are equal."""
    with make_progress() as progress:
        task = progress.add_task('comparing', total=len(limits) * len(inputs))
        comparison = compare_forms(reference, other, inputs, limits, lambda: progress.advance(task))
    print_comparison(comparison, *names)
    return comparison.equal

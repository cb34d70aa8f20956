"""The run behind ``tools/draw_kernels.py``: kernels of a stage, or a sharing grid."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mmlk.analysis.erf.features import find_stages
from mmlk.analysis.kernel_figure import draw_kernels, draw_sharing_grid, stage_kernels
from mmlk.cli.backbones import backbone_of_config
from mmlk.errors import UsageError


def run(args: argparse.Namespace) -> None:
    """Draw what the arguments ask for.

    Raises:
        UsageError: Something cannot be used as given.
    """
    out = Path(args.out)
    if out.suffix.lower() != '.png' or out.is_dir():
        raise UsageError(f'--out must be a file ending in .png, got {args.out}')
    if (args.config is None) == (args.sharing_grid is None):
        raise UsageError('expected either a CONFIG or --sharing-grid K, got both or neither; see --help')
    if args.sharing_grid is not None:
        draw_sharing_grid(args.sharing_grid, out, center_radius=args.center_radius)
        print(f'written to {out}')
        return
    torch.manual_seed(0)
    backbone = backbone_of_config(args.config, args.checkpoint, args.cfg_options)
    stages = find_stages(backbone.network)
    if not -len(stages) <= args.stage < len(stages):
        raise UsageError(
            f'--stage must be between 0 and {len(stages) - 1}, got {args.stage}'
            if stages
            else f'expected a network with stages, {type(backbone.network).__name__} has none that are known by name'
        )
    stage = args.stage % len(stages)
    blocks = stage_kernels(stages[stage])
    if not -len(blocks) <= args.block < len(blocks):
        raise UsageError(f'--block must be between 0 and {len(blocks) - 1} in stage {stage}, got {args.block}')
    number = args.block % len(blocks)
    block = blocks[number]
    count, height, width = block.fused.shape
    if not backbone.trained:
        print(f'note: {backbone.name} has random weights; give a checkpoint to see what was learned')
    title = f'{backbone.name}, {backbone.weights}\nstage {stage}, large kernel {number} of {len(blocks)} ({block.name})'
    draw_kernels(block, out, title=title, channels=args.channels)
    print(f'{len(blocks)} large kernels in stage {stage}, of number {number}: {count} channels, {height} x {width}')
    print(f'written to {out}')

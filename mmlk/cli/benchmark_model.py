"""The run behind ``tools/benchmark_model.py``: what is asked for, table, result file."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from rich.table import Table

from mmlk.benchmarks.environment import describe_run
from mmlk.benchmarks.models import DEFAULTS, ModelBenchmark, host_of, set_backend, variants
from mmlk.benchmarks.results import write_results
from mmlk.benchmarks.timing import make_clock
from mmlk.cli.benchmark_ops import check_backend, check_json, print_machine
from mmlk.cli.device import resolve_device
from mmlk.cli.progress import make_progress
from mmlk.cli.summary import console_of_width
from mmlk.errors import UsageError

#: Seconds per row, by device.
SECONDS = {'cpu': 5.0, 'cuda': 3.0}


def run(cfg: Config, args: argparse.Namespace) -> None:
    """Measure the model of a config as the arguments say.

    Raises:
        UsageError: It cannot be measured.
    """
    device = resolve_device(args.device)
    for name in ('backend', 'compare'):
        check_backend(f'--{name}', getattr(args, name))
    check_json(args.json)
    host = host_of(cfg)
    batch_size, image_size = DEFAULTS[device, host]
    batch_size = args.batch_size or batch_size
    if args.image_size is not None:
        image_size = (args.image_size[0], args.image_size[-1])
    wanted = variants(args.mode, args.form, args.compile)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    description = describe_run(device)
    part = 'backbone' if args.backbone_only else 'model'
    print_machine(description)
    print(f'{args.config}: {part}, batch {batch_size}, {image_size[0]} x {image_size[1]}, {args.amp or "float32"}')
    torch.manual_seed(0)
    benchmark = ModelBenchmark(cfg, device, batch_size, image_size, args.backbone_only, args.amp)
    backends = [args.backend] if args.compare is None else [args.backend, args.compare]
    if set_backend(benchmark.model, args.backend) == 0 and any(backends):
        raise UsageError(f'{args.config} has no module of mmlk with a backend; leave out --backend and --compare')
    clock, rows = make_clock(device), []
    with make_progress() as progress:
        task = progress.add_task('', total=len(wanted))
        for variant in wanted:
            progress.update(task, description=str(variant))
            rows += benchmark.measure(variant, backends, clock, args.seconds or SECONDS[device])
            progress.advance(task)
    print_rows(rows, device)
    if args.json is not None:
        results = {
            'kind': 'model',
            'run': description,
            'settings': {
                'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                'config': args.config,
                'part': part,
                'batch_size': batch_size,
                'image_size': list(image_size),
                'amp': args.amp,
                'host': host,
            },
            'rows': rows,
        }
        print(f'written to {write_results(results, args.json)}')


def print_rows(rows: list[dict], device: str) -> None:
    """Print the rows as a table."""
    table = Table(title='one process; training is forward, backward and optimizer step', title_justify='left')
    for name in ('mode', 'form', 'run', 'backend'):
        table.add_column(name, no_wrap=True)
    memory = 'peak memory (MiB)' if device == 'cuda' else 'memory growth (MiB)'
    for name in ('images/s', 'ms/step', 'steps', memory, 'ratio'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        table.add_row(
            row['mode'],
            row['form'],
            'compiled' if row['compiled'] else 'eager',
            row['backend'] or 'chosen per call',
            f'{row["images_per_s"]:.4g}',
            f'{row["step"]["median_ms"]:.4g}',
            str(row['step']['repeats']),
            '-' if row['peak_mib'] is None else f'{row["peak_mib"]:.0f}',
            f'{row["ratio"]:.3g}' if 'ratio' in row else '',
        )
    console_of_width(130).print(table)

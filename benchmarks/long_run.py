"""Train for some thousand iterations on demo data and watch memory, file descriptors, threads and workers.

The training is tools/train.py --demo in a process of its own, with the smallest network that runs every code path of
its recipe, ten validations and ten checkpoints.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from rich.table import Table

from mmlk.benchmarks.environment import describe_run
from mmlk.benchmarks.long_run import Sample, Slope, growth, look
from mmlk.benchmarks.results import write_results
from mmlk.cli.arguments import make_parser, positive_int
from mmlk.cli.benchmark_ops import check_json
from mmlk.cli.errors import one_sentence
from mmlk.cli.progress import make_progress
from mmlk.cli.summary import console_of_width
from mmlk.errors import UsageError
from mmlk.files import written_whole

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = 'configs/ade20k/upernet_pelk_t.py'
EXAMPLES = """\
  python benchmarks/long_run.py --json benchmarks/results/NAME.json --figure long_run.png      5 minutes on two cores
  python benchmarks/long_run.py --workers 0 --iterations 4000
"""
#: Shrinks the network, not what the training does around it.
OPTIONS = [
    'model.backbone.depths=(1,1,1,1)',
    'model.backbone.width_factor=0.0834',
    'model.backbone.kernel_size=(9,9,7,7)',
    'model.decode_head.in_channels=[8,16,32,64]',
    'model.decode_head.channels=8',
    'model.auxiliary_head.in_channels=32',
    'model.auxiliary_head.channels=8',
    'model.data_preprocessor.size=(64,64)',
    'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
    'train_dataloader.batch_size=2',
    'val_dataloader.dataset.indices=8',
]
#: Share of the run after which memory counts: two validations and two checkpoints are done.
WARM_UP = 0.25
#: Points through which the line goes.
WINDOWS = 40
MEASURES = {'rss_kib': 'resident', 'anonymous_kib': 'without files', 'tree_kib': 'the same with workers'}
COUNTS = ('descriptors', 'tree_descriptors', 'threads', 'children')


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('--config', default=CONFIG, help=f'config of a segmentor with PeLK (default: {CONFIG})')
    parser.add_argument('--iterations', type=positive_int, default=2000, metavar='N', help='default: 2000')
    parser.add_argument('--workers', type=int, choices=range(9), default=2, metavar='N', help='default: 2')
    parser.add_argument('--interval', type=float, default=1.0, metavar='S', help='seconds between looks (default: 1)')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs', 'long_run'), help='where the run goes')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result to FILE')
    parser.add_argument('--figure', type=Path, metavar='FILE', help='draw memory over iterations')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='more of the training')
    return parser.parse_args()


def command_of(args: argparse.Namespace) -> list[str]:
    """The training."""
    every = max(1, args.iterations // 10)
    options = [
        *OPTIONS,
        f'train_cfg.val_interval={every}',
        f'default_hooks.checkpoint.interval={every}',
        *(f'{kind}_dataloader.num_workers={args.workers}' for kind in ('train', 'val')),
        *(f'{kind}_dataloader.persistent_workers={args.workers > 0}' for kind in ('train', 'val')),
        *args.cfg_options,
    ]
    script = str(REPOSITORY / 'tools' / 'train.py')
    folder = str(args.work_dir.resolve())
    return [sys.executable, script, args.config, '--demo', '--work-dir', folder, '--cfg-options', *options]


def watch(args: argparse.Namespace) -> list[Sample]:
    """Train, and look at the process until it has ended.

    Raises:
        UsageError: The training failed; the message names its output.
    """
    args.work_dir.mkdir(parents=True, exist_ok=True)
    output = args.work_dir / 'output.log'
    earlier = set(args.work_dir.glob('*/vis_data/scalars.json'))
    threads = dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', MMLK_DEMO_ITERS=str(args.iterations))
    samples, start = [], time.monotonic()
    with output.open('w') as stream, make_progress() as progress:
        task = progress.add_task('iterations', total=args.iterations)
        process = subprocess.Popen(command_of(args), stdout=stream, stderr=stream, env=os.environ | threads)
        try:
            while process.poll() is None:
                iteration = last_iteration(set(args.work_dir.glob('*/vis_data/scalars.json')) - earlier)
                sample = look(process.pid, time.monotonic() - start, iteration)
                # Before the first line of the log the process imports and builds.
                if sample is not None and iteration:
                    samples.append(sample)
                progress.update(task, completed=iteration)
                time.sleep(args.interval)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        lines = [line for line in output.read_text().splitlines() if line.strip()] or ['no output']
        raise UsageError(f'the training failed: {lines[-1]}; all of it is in {output}')
    return samples


def last_iteration(logs: set[Path]) -> int:
    """The iteration of the last whole line of a training's log, 0 before the first."""
    for log in logs:
        with log.open('rb') as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
            lines = stream.read().split(b'\n')[:-1]
        for line in reversed(lines):
            # Lines of a validation have no rate; the first of the 4096 bytes may be half a line.
            if b'"lr"' in line and line.startswith(b'{'):
                return int(json.loads(line)['step'])
    return 0


def evaluate(samples: list[Sample], iterations: int) -> tuple[dict[str, Slope], dict[str, tuple[int, int]]]:
    """Slopes of memory in KiB per 1000 iterations, and least and most of what is counted, after the warm-up.

    Raises:
        UsageError: The run was too short to be looked at.
    """
    begin, window = int(WARM_UP * iterations), max(1, iterations // WINDOWS)
    # Behind the last line of the log, the process ends.
    late = [sample for sample in samples if begin <= sample.iteration < iterations]
    try:
        slopes = {name: growth(late, name, begin, window) for name in MEASURES}
    except ValueError as error:
        raise UsageError(f'the run was too short for {len(samples)} looks at it: {error}; more --iterations') from error
    counts = {name: [getattr(sample, name) for sample in late] for name in COUNTS}
    return slopes, {name: (min(found), max(found)) for name, found in counts.items()}


def print_result(slopes: dict[str, Slope], counts: dict[str, tuple[int, int]], samples: list[Sample]) -> None:
    """Print both as tables."""
    table = Table(title='growth in KiB per 1000 iterations, after the warm-up', title_justify='left')
    for name in ('memory', 'most (MiB)', 'slope', '95 % from', 'to', 'points'):
        table.add_column(name, justify='left' if name == 'memory' else 'right', no_wrap=True)
    for name, slope in slopes.items():
        most = max(getattr(sample, name) for sample in samples) / 1024
        numbers = (f'{value:.0f}' for value in (most, slope.median, slope.low, slope.high, slope.points))
        table.add_row(MEASURES[name], *numbers)
    console_of_width(100).print(table)
    for name, (low, high) in counts.items():
        print(f'{name.replace("_", ": ")}: {low} to {high}')


def draw(samples: list[Sample], slopes: dict[str, Slope], iterations: int, path: Path) -> None:
    """Draw memory and descriptors over iterations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.4), dpi=120, layout='constrained')
    memory, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    x = [sample.iteration for sample in samples]
    for name, label in MEASURES.items():
        slope = slopes[name].median
        memory.plot(x, [getattr(s, name) / 1024 for s in samples], lw=1.2, label=f'{label}: {slope:+.0f} KiB per 1000')
    memory.axvspan(0, WARM_UP * iterations, color='0.92', zorder=0)
    memory.set_ylabel('MiB')
    memory.set_ylim(0, 1.25 * max(max(sample.rss_kib, sample.tree_kib) for sample in samples) / 1024)
    memory.legend(loc='upper center', ncols=3, fontsize=7.5, frameon=False)
    memory.set_title(f'{iterations} iterations of training; grey: warm-up', fontsize=10)
    for name, label in (('tree_descriptors', 'file descriptors'), ('children', 'workers'), ('threads', 'threads')):
        counts.plot(x, [getattr(sample, name) for sample in samples], lw=1.2, label=label)
    counts.axvspan(0, WARM_UP * iterations, color='0.92', zorder=0)
    counts.set_ylim(0, 1.6 * max(sample.tree_descriptors for sample in samples))
    counts.legend(loc='upper right', ncols=3, fontsize=8, frameon=False)
    counts.set_xlabel('iteration')
    counts.set_xlim(0, iterations)
    with written_whole(path) as partial:
        figure.savefig(partial, format='png')


def run(args: argparse.Namespace) -> None:
    if not Path(args.config).is_file():
        raise UsageError(f'expected a config file, found none at {args.config}')
    if not Path('/proc/self/smaps_rollup').exists():
        raise UsageError('the memory of a process is read from /proc/PID/smaps_rollup, which needs Linux 4.14 or later')
    check_json(args.json)
    description = describe_run('cuda' if torch.cuda.is_available() else 'cpu')
    samples = watch(args)
    slopes, counts = evaluate(samples, args.iterations)
    print_result(slopes, counts, samples)
    if args.figure is not None:
        draw(samples, slopes, args.iterations, args.figure)
        print(f'drawn in {args.figure}')
    if args.json is not None:
        results = {
            'kind': 'long_run',
            'run': description,
            'settings': {
                'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                'config': args.config,
                'iterations': args.iterations,
                'workers': args.workers,
                'seconds_between': args.interval,
                'warm_up': WARM_UP,
            },
            'slopes': {name: slope.record() for name, slope in slopes.items()},
            'counts': {name: {'least': low, 'most': high} for name, (low, high) in counts.items()},
            'rows': [asdict(sample) for sample in samples],
        }
        print(f'written to {write_results(results, args.json)}')


def main() -> None:
    args = parse_args()
    with one_sentence():
        run(args)


if __name__ == '__main__':
    sys.exit(main())

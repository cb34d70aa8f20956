"""Train a segmentor on demo data, dense and with 40 % of its weights at zero, for several seeds, and compare mIoU.

Every run is tools/train.py --demo in a process of its own, with one thread. Finished runs are kept: the same command
continues where it was stopped.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from mmlk.benchmarks.environment import describe_run
from mmlk.benchmarks.results import write_results
from mmlk.cli.arguments import make_parser, positive_int
from mmlk.cli.errors import one_sentence
from mmlk.cli.progress import make_progress
from mmlk.errors import UsageError
from mmlk.files import write_whole

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = """\
  python benchmarks/sparse_demo.py --json benchmarks/results/NAME.json     3 seeds, about 40 minutes on two cores
  python benchmarks/sparse_demo.py --seeds 0 --init erk --interval 6
  python benchmarks/sparse_demo.py --iterations 4 --seeds 0 1              does it run at all
"""
#: Written beside a run's logs when it is finished.
DONE = 'finished.json'


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('--config', default='configs/ade20k/upernet_pelk_t.py', help='config of a segmentor')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], metavar='N', help='default: 0 1 2')
    parser.add_argument('--iterations', type=positive_int, default=120, metavar='N', help='of each run')
    parser.add_argument('--sparsity', type=float, default=0.4, help='share of the weights at zero')
    parser.add_argument('--init', default='snip', help='snip, erk or uniform')
    parser.add_argument('--interval', type=positive_int, default=12, metavar='N', help='optimizer steps (default: 12)')
    parser.add_argument('--prune-rate', type=float, default=0.3, help='default: 0.3, as SLaK-S and -B')
    parser.add_argument('--growth', default='random', help='random or gradient')
    parser.add_argument('--jobs', type=positive_int, default=2, metavar='N', help='runs at the same time')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs', 'sparse_demo'), help='where runs go')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result to FILE')
    return parser.parse_args()


def plan(args: argparse.Namespace) -> dict[tuple[str, int], Path]:
    """Folder of every run, by kind and seed; its name says all that the run depends on."""
    settings = f'{args.sparsity:g}_{args.init}_{args.growth}_{args.interval}_{args.prune_rate:g}'
    folder = args.work_dir.resolve() / Path(args.config).stem
    return {
        (kind, seed): folder / (kind if kind == 'dense' else f'sparse_{settings}') / f'{args.iterations}_seed{seed}'
        for seed in args.seeds
        for kind in ('dense', 'sparse')
    }


def write_config(args: argparse.Namespace, kind: str, folder: Path) -> Path:
    """The config of a run: that of the command line, with the hook or without."""
    hook = dict(
        type='mmlk.DynamicSparsityHook',
        sparsity=args.sparsity,
        init=args.init,
        interval=args.interval,
        prune_rate=args.prune_rate,
        growth=args.growth,
    )
    path = folder / 'config.py'
    hooks = [hook] if kind == 'sparse' else []
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f'_base_ = [{str(Path(args.config).resolve())!r}]\n\ncustom_hooks = {hooks!r}\n')
    return path


def train(args: argparse.Namespace, kind: str, seed: int, folder: Path) -> dict[str, float]:
    """Metrics of a run, which is made unless it is there.

    Raises:
        UsageError: It failed; the message names its output.
    """
    done = folder / DONE
    if done.is_file():
        return json.loads(done.read_text())
    config = write_config(args, kind, folder)
    command = [sys.executable, str(REPOSITORY / 'tools' / 'train.py'), str(config), '--demo', '--work-dir']
    command += [str(folder / 'run'), '--cfg-options', f'randomness.seed={seed}', 'default_hooks.checkpoint.interval=-1']
    threads = dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', MMLK_DEMO_ITERS=str(args.iterations))
    with (folder / 'output.log').open('w') as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | threads).returncode
    if code:
        lines = [line for line in (folder / 'output.log').read_text().splitlines() if line.strip()] or ['']
        raise UsageError(f'{kind} run with seed {seed} failed: {lines[-1]}; all of it is in {folder / "output.log"}')
    metrics = read_metrics(folder / 'run')
    write_whole(done, json.dumps(metrics) + '\n')
    return metrics


def read_metrics(work_dir: Path) -> dict[str, float]:
    """Metrics of the last validation, in percent, and the final density of a sparse run."""
    log = max(work_dir.glob('*/vis_data/scalars.json'))
    records = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
    metrics = next(record for record in reversed(records) if 'mIoU' in record)
    found = {name: round(metrics[name], 4) for name in ('mIoU', 'present/mIoU', 'aAcc')}
    densities = [record['density'] for record in records if 'density' in record]
    return found | ({'density': round(densities[-1], 6)} if densities else {})


def compare(runs: dict[tuple[str, int], dict[str, float]], seeds: list[int]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of both kinds, and the ratio of the means, by metric."""
    result = {}
    for metric in ('mIoU', 'present/mIoU'):
        values = {kind: [runs[kind, seed][metric] for seed in seeds] for kind in ('dense', 'sparse')}
        row = {f'{kind}_mean': statistics.mean(found) for kind, found in values.items()}
        # A single run has no spread.
        row |= {f'{kind}_std': statistics.stdev(found) if len(found) > 1 else 0.0 for kind, found in values.items()}
        result[metric] = row | {'ratio': row['sparse_mean'] / row['dense_mean'] if row['dense_mean'] else 0.0}
    return result


def run(args: argparse.Namespace) -> None:
    if not Path(args.config).is_file():
        raise UsageError(f'expected a config file, found none at {args.config}')
    if len(set(args.seeds)) < len(args.seeds):
        raise UsageError(f'--seeds must differ, got {args.seeds}')
    folders = plan(args)
    runs = {}
    with make_progress() as progress, ThreadPoolExecutor(args.jobs) as pool:
        task = progress.add_task('runs', total=len(folders))
        pending = {pool.submit(train, args, *key, folder): key for key, folder in folders.items()}
        try:
            for future in as_completed(pending):
                runs[pending[future]] = future.result()
                progress.advance(task)
                kind, seed = pending[future]
                print(f'{kind}, seed {seed}: mIoU {runs[kind, seed]["mIoU"]:.2f}', flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    comparison = compare(runs, args.seeds)
    for metric, row in comparison.items():
        print(
            f'{metric} (%), mean and standard deviation of {len(args.seeds)}: '
            f'dense {row["dense_mean"]:.2f} ({row["dense_std"]:.2f}), '
            f'sparse {row["sparse_mean"]:.2f} ({row["sparse_std"]:.2f}), ratio {row["ratio"]:.3f}'
        )
    if args.json is not None:
        results = {
            'kind': 'sparse_demo',
            'run': describe_run('cuda' if torch.cuda.is_available() else 'cpu'),
            'settings': {
                'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                'config': args.config,
                'iterations': args.iterations,
                'sparsity': args.sparsity,
                'init': args.init,
                'interval': args.interval,
                'prune_rate': args.prune_rate,
                'growth': args.growth,
            },
            'rows': [{'kind': kind, 'seed': seed, **runs[kind, seed]} for kind, seed in folders],
            'comparison': comparison,
        }
        print(f'written to {write_results(results, args.json)}')


def main() -> None:
    args = parse_args()
    with one_sentence():
        run(args)


if __name__ == '__main__':
    sys.exit(main())

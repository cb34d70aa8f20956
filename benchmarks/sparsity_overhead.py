"""Measure what mmlk.DynamicSparsityHook adds to a training step, with synthetic images on the CPU or a GPU."""

import argparse
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from rich.table import Table

from mmlk.benchmarks.environment import describe_run
from mmlk.benchmarks.models import DEFAULTS, ModelBenchmark, Variant, host_of
from mmlk.benchmarks.results import write_results
from mmlk.benchmarks.timing import CpuClock, CudaClock, Timing, interleave, make_clock
from mmlk.cli.arguments import make_parser, positive_float, positive_int
from mmlk.cli.benchmark_ops import check_json, print_machine, resolve_device
from mmlk.cli.config import read_config
from mmlk.cli.errors import BUILD_ERRORS, one_sentence
from mmlk.cli.summary import console_of_width
from mmlk.sparsity import UpdateSchedule

CONFIGS = ['configs/ade20k/upernet_pelk_t.py', 'configs/imagenet/slak_t.py']
EXAMPLES = """\
  python benchmarks/sparsity_overhead.py --json benchmarks/results/NAME.json       two minutes on two cores
  python benchmarks/sparsity_overhead.py configs/imagenet/pelk_t.py --batch-size 64 --image-size 224 --device cuda
"""
#: Far more steps than are measured: no update happens unless it is asked for.
STEPS = 1_000_000
#: Times that what the hook does alone is repeated.
REPEATS = {'hook': 20, 'update': 3}


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('configs', nargs='*', default=CONFIGS, help=f'config files (default: {" ".join(CONFIGS)})')
    parser.add_argument('--sparsity', type=float, default=0.4, help='share of the weights at zero')
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='where to run (default: a GPU if there is one)')
    parser.add_argument('--batch-size', type=positive_int, metavar='N', help='images per step')
    parser.add_argument('--image-size', type=positive_int, metavar='EDGE', help='in pixels')
    parser.add_argument('--seconds', type=positive_float, default=15.0, metavar='S', help='per config and kind of step')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results and the machine to FILE')
    return parser.parse_args()


def attach(benchmark: ModelBenchmark, sparsity: float):
    """The hook as a runner would have it, on the benchmark's model and optimizer; no step calls it yet."""
    hook = HOOKS.build(
        dict(type='mmlk.DynamicSparsityHook', sparsity=sparsity, init='uniform', interval=STEPS, prune_rate=0.5)
    )
    silent = SimpleNamespace(add_scalars=lambda *_, **__: None, add_image=lambda *_, **__: None)
    runner = SimpleNamespace(
        model=benchmark.model,
        optim_wrapper=OptimWrapper(benchmark.optimizer),
        max_iters=STEPS,
        iter=0,
        seed=0,
        hooks=[hook],
        logger=SimpleNamespace(info=lambda text: None),
        message_hub=SimpleNamespace(update_scalar=lambda *_: None),
        visualizer=silent,
    )
    hook.before_train(runner)
    benchmark.optimizer._optimizer_step_post_hooks.clear()
    return hook


def measure(config: str, args: argparse.Namespace, device: str, clock: CpuClock | CudaClock) -> dict:
    """The row of one config."""
    cfg = read_config(config)
    batch_size, image_size = DEFAULTS[device, host_of(cfg)]
    image_size = image_size if args.image_size is None else (args.image_size, args.image_size)
    torch.manual_seed(0)
    benchmark = ModelBenchmark(cfg, device, args.batch_size or batch_size, image_size)
    dense = benchmark.prepare(Variant('train', 'train', False))
    hook = attach(benchmark, args.sparsity)
    optimizer = benchmark.optimizer

    def sparse() -> None:
        handle = optimizer.register_step_post_hook(hook.after_step)
        dense()
        handle.remove()

    def after_step() -> None:
        hook.after_step(optimizer, (), {})

    estimates = {}
    for name, run in (('ours', sparse), ('dense', dense)):
        # The first step allocates what stays.
        run()
        estimates[name] = clock.time(run)()
    timing, others = interleave(clock, sparse, {'dense': dense}, estimates, args.seconds)
    alone = Timing([clock.time(after_step)() for _ in range(REPEATS['hook'])])
    hook.training.updates = UpdateSchedule(interval=1)
    update = Timing([clock.time(after_step)() for _ in range(REPEATS['update'])])
    counts = hook.training.counts().values()
    return {
        'config': config,
        'batch_size': args.batch_size or batch_size,
        'image_size': list(image_size),
        'layers': len(counts),
        'weights': sum(total for _, total in counts),
        'dense': others['dense'].record(),
        'sparse': timing.record(),
        'hook': alone.record(),
        'update': update.record(),
        'overhead': alone.median_ms / others['dense'].median_ms,
        'ratio': timing.median_ms / others['dense'].median_ms,
    }


def print_rows(rows: list[dict]) -> None:
    """Print the rows as a table."""
    table = Table(title='one training step: forward, backward, optimizer', title_justify='left')
    table.add_column('config', no_wrap=True)
    for name in ('images', 'dense (ms)', 'with the hook (ms)', 'ratio', 'hook (ms)', 'hook/dense', 'update (ms)'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        table.add_row(
            row['config'],
            f'{row["batch_size"]} x {row["image_size"][0]} x {row["image_size"][1]}',
            *(f'{row[name]["median_ms"]:.4g}' for name in ('dense', 'sparse')),
            f'{row["ratio"]:.3f}',
            f'{row["hook"]["median_ms"]:.3g}',
            f'{100 * row["overhead"]:.2f} %',
            f'{row["update"]["median_ms"]:.4g}',
        )
    console_of_width(140).print(table)


def run(args: argparse.Namespace) -> None:
    device = resolve_device(args.device)
    check_json(args.json)
    description = describe_run(device)
    print_machine(description)
    clock = make_clock(device)
    rows = [measure(config, args, device, clock) for config in args.configs]
    print_rows(rows)
    if args.json is not None:
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        settings = {'command': command, 'sparsity': args.sparsity}
        results = {'kind': 'sparsity_overhead', 'run': description, 'settings': settings, 'rows': rows}
        print(f'written to {write_results(results, args.json)}')


def main() -> None:
    args = parse_args()
    with one_sentence(*BUILD_ERRORS):
        run(args)


if __name__ == '__main__':
    sys.exit(main())

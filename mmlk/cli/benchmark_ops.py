"""The run behind ``tools/benchmark_ops.py``: what is asked for, progress, table, result file."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mmlk.benchmarks.collect import Collection
from mmlk.benchmarks.contenders import BASELINES, PRECONVERTED
from mmlk.benchmarks.environment import describe_run
from mmlk.benchmarks.ops import LIMIT_BACKWARD_MS, LIMIT_FACTOR, LIMIT_FORWARD_MS, Settings, measure
from mmlk.benchmarks.roofline import PASSES, Ceilings, dense_flops
from mmlk.benchmarks.shapes import CPU_BATCH, TABLES, Shape, select_shapes
from mmlk.benchmarks.timing import Clock, make_clock, measure_ceilings, touch_memory
from mmlk.cli.device import resolve_device
from mmlk.cli.progress import make_progress
from mmlk.cli.summary import console_of_width
from mmlk.errors import UsageError
from mmlk.ops.depthwise_conv2d import dispatcher as depthwise_dispatcher
from mmlk.ops.peripheral_conv2d import dispatcher as peripheral_dispatcher

DISPATCHERS = {'depthwise': depthwise_dispatcher, 'peripheral': peripheral_dispatcher}
#: Headings of the table, where they are not the names.
_HEADINGS = {'channels_last': 'ch. last', PRECONVERTED: 'preconv.'}
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16, 'fp64': torch.float64}
DEFAULT_DTYPES = {'cpu': ['fp32'], 'cuda': ['bf16', 'fp32']}
#: Seconds per implementation and pass: (usual, with --quick).
SECONDS = {'cpu': (0.3, 0.07), 'cuda': (0.05, 0.02)}
#: Written once before a run on the CPU; a large baseline needs about this much.
TOUCHED_BYTES = 1 << 30
#: The status of a run in which a result was wrong.
WRONG_STATUS = 1


def check_backend(option: str, name: str | None, op: str = 'depthwise') -> None:
    """Raise ``UsageError`` if an option names a backend that the op does not have."""
    names = DISPATCHERS[op].names()
    if name is not None and name not in names:
        raise UsageError(f'{option} must be one of {", ".join(names)}, got {name}')


def check_json(path: Path | None) -> None:
    """Raise ``UsageError`` if results cannot be written to a file; asked before anything is measured."""
    if path is not None and path.is_dir():
        raise UsageError(f'--json must be a file to write, {path} is a folder')


def list_shapes(op: str) -> None:
    """Print the table of an op's shapes."""
    table = Table(title='shapes (N is at most 2 on the CPU)', title_justify='left')
    for name in ('name', 'N', 'C', 'H', 'W', 'kernel', '--quick'):
        table.add_column(name, justify='left' if name == 'name' else 'right')
    if op == 'peripheral':
        table.add_column('groups')
    for shape in TABLES[op]:
        numbers = (shape.n, shape.c, shape.h, shape.w)
        groups = ['+'.join(map(str, shape.grid))] if shape.grid else []
        table.add_row(shape.name, *map(str, numbers), f'{shape.r} x {shape.s}', 'yes' if shape.quick else '', *groups)
    console_of_width(max(80, Console(width=10_000).measure(table).maximum)).print(table)


def run(args: argparse.Namespace) -> int:
    """Measure what the arguments ask for; the exit status.

    Raises:
        UsageError: They cannot be measured.
    """
    device = resolve_device(args.device)
    check_backend('--backend', args.backend, args.op)
    check_json(args.json)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    shapes = select_shapes(device, args.quick, args.batch, args.shapes, args.op)
    dtypes = list(dict.fromkeys(args.dtype or DEFAULT_DTYPES[device]))
    settings = Settings(args.backend, args.seconds or SECONDS[device][args.quick])
    start = time.perf_counter()
    collection = _start_collection(args, describe_run(device), settings)
    print_machine(collection.results['run'])
    _print_header(args, device, settings)
    cases = [(shape, name, layout) for name in dtypes for layout in args.layout for shape in shapes]
    done = collection.done(settings.passes)
    left = [case for case in cases if _case_key(*case) not in done]
    if len(left) < len(cases):
        print(f'{len(cases) - len(left)} of {len(cases)} cases are in {args.json} already')
    _measure_all(left, make_clock(device), settings, collection)
    rows = collection.rows
    print_rows(rows, args.op)
    wrong = [row for row in rows if row.get('wrong')]
    _print_conclusion(rows, wrong, time.perf_counter() - start)
    if all('skipped' in row for row in rows):
        collection.discard()
        raise UsageError(f'nothing could be measured: {rows[0]["skipped"]}')
    if args.json is not None and wrong:
        collection.discard()
        print(f'{args.json} is not written: a result is wrong')
    elif args.json is not None:
        print(f'written to {collection.finish()}')
    return WRONG_STATUS if wrong else 0


def _start_collection(args: argparse.Namespace, description: dict, settings: Settings) -> Collection:
    results = {
        'kind': 'ops',
        'run': description,
        'settings': {
            'op': args.op,
            'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            'quick': args.quick,
            'batch': args.batch,
            'backend': args.backend,
            'seconds': settings.seconds,
        },
    }
    return Collection(args.json, results, args.resume)


def _case_key(shape: Shape, dtype: str, layout: str) -> tuple:
    return shape.size, _full_name(dtype), layout, shape.grid


def _full_name(dtype: str) -> str:
    return str(DTYPES[dtype]).removeprefix('torch.')


def _make_ceilings(dtypes: list[str], clock: Clock, collection: Collection) -> dict[str, Ceilings]:
    """Rates of the machine; those of an earlier run, where its rows are in the same file."""
    if clock.device == 'cpu':
        touch_memory(TOUCHED_BYTES)
    ceilings = {}
    for name in dtypes:
        known = collection.ceilings.get(_full_name(name))
        ceilings[name] = Ceilings(**known) if known else measure_ceilings(clock, DTYPES[name])
        collection.ceilings[_full_name(name)] = vars(ceilings[name])
    _print_ceilings(ceilings)
    return ceilings


def _measure_all(cases: list[tuple], clock: Clock, settings: Settings, collection: Collection) -> None:
    """Add the rows of all cases, with a progress bar and a line per case on the standard error stream."""
    ceilings = _make_ceilings(list(dict.fromkeys(name for _, name, _ in cases)), clock, collection)
    with make_progress() as progress:
        task = progress.add_task('', total=sum(_expected_seconds(case[0], clock.device, settings) for case in cases))
        for shape, name, layout in cases:
            progress.update(task, description=shape.label)
            measured = []
            for row in measure(shape, DTYPES[name], layout, clock, ceilings[name], settings):
                measured.append(row)
                collection.add(row)
                progress.advance(task, _expected_seconds(shape, clock.device, settings) / len(settings.passes))
            progress.console.print(_line(shape, measured), highlight=False, soft_wrap=True)


def _expected_seconds(shape: Shape, device: str, settings: Settings) -> float:
    """Roughly how long a shape takes; only the proportions matter."""
    fixed = len(settings.passes) * (len(BASELINES[shape.op]) + 2) * settings.seconds
    if device == 'cuda':
        return fixed + 5e-12 * dense_flops(shape.size)
    # F.conv2d on two cores: 0.2 ns per FLOP, about thirty runs while they are short and ten when they are long.
    single = 0.2e-9 * dense_flops(shape.size)
    return fixed + (30 if single < 0.5 else 10 if single < 5 else 4) * single


def _line(shape: Shape, rows: list[dict]) -> str:
    parts = []
    for row in rows:
        if row.get('wrong'):
            parts.append(f'{row["pass"]} WRONG')
        elif 'ours' in row:
            ratio = row['ratio_contiguous']
            parts.append(f'{row["pass"]} {_ms(row["ours"]["median_ms"])}' + (f' ({ratio:.3g}x)' if ratio else ''))
        else:
            parts.append(f'{row["pass"]} not run')
    return f'{shape.label}: ' + ', '.join(parts)


def print_machine(description: dict) -> None:
    """Print on what a benchmark runs."""
    machine, versions = description['machine'], description['versions']
    commit = description['commit'] or 'no commit'
    where = machine['gpu'] or f'{machine["cpu"]}, {machine["cores"]} cores, {machine["threads"]} threads'
    print(f'{where}; torch {versions["torch"]}, mmlk {versions["mmlk"]}')
    print(f'{description["date"]}, {commit[:12]}{" with uncommitted changes" if description["dirty"] else ""}')


def _print_header(args: argparse.Namespace, device: str, settings: Settings) -> None:
    backend = settings.backend or 'chosen per pass'
    print(f'{DISPATCHERS[args.op].op}, backend: {backend}; TF32 in cuDNN: {torch.backends.cudnn.allow_tf32}')
    if device == 'cpu' and args.batch is None:
        print(f'on the CPU the batch of a shape is at most {CPU_BATCH}; --batch changes it')
    if device == 'cuda':
        print('the L2 cache is flushed before every run')
    print(
        f'rule: at most {round(100 * LIMIT_FACTOR - 100)} % and {LIMIT_FORWARD_MS} ms (forward) or {LIMIT_BACKWARD_MS} '
        f'ms (with backward) slower than the best of {", ".join(BASELINES[args.op])}, all given the same tensors',
        flush=True,
    )


def _print_ceilings(ceilings: dict[str, Ceilings]) -> None:
    for name, rates in ceilings.items():
        matrix = '' if rates.matrix_flops == rates.fma_flops else f', {rates.matrix_flops / 1e9:.0f} in matrix units'
        print(
            f'measured ceilings, {name}: copy {rates.bytes_per_s / 1e9:.1f} GB/s, '
            f'matrix product {rates.fma_flops / 1e9:.0f} GFLOP/s{matrix}',
            flush=True,
        )


def print_rows(rows: list[dict], op: str) -> None:
    """Print all rows of an op as one table, times in ms."""
    *baselines, last = BASELINES[op]
    baselines += [PRECONVERTED, last]
    ratios = {'contiguous': 'x contig.'} if op == 'depthwise' else {'dense': 'x dense', 'contiguous': 'x contig.'}
    table = Table(title='milliseconds, medians', title_justify='left')
    table.add_column('N C H W kernel', no_wrap=True)
    table.add_column('pass', no_wrap=True)
    table.add_column('backend', overflow='fold')
    for name in (
        'ours',
        *(_HEADINGS.get(name, name) for name in baselines),
        *ratios.values(),
        'x best',
        'x roofline',
        'error',
        'rule',
    ):
        table.add_column(name, justify='right', no_wrap=True)
    previous = None
    for row in rows:
        case = tuple(row['shape'].values()), row['dtype'], row['layout'], row.get('grid')
        if case != previous and previous is not None:
            table.add_section()
        n, c, h, w, r, s = case[0]
        first = f'{n} {c} {h} {w} {r if r == s else f"{r}x{s}"} {row["dtype"]}'
        first += ' NHWC' if row['layout'] == 'channels_last' else ''
        table.add_row(first if case != previous else '', row['pass'], *_cells(row, baselines, list(ratios)))
        previous = case
    console_of_width(Console(width=10_000).measure(table).maximum).print(table)


def _cells(row: dict, baselines: list[str], ratios: list[str]) -> list[str]:
    if 'skipped' in row:
        return [f'not run: {row["skipped"]}'[:60]]
    # The predictions behind the choice are in the result file.
    chosen = dict.fromkeys(
        f'{choice["name"]} {choice["detail"].partition(",")[0]}'.strip() for choice in row['backend'].values()
    )
    error = f'{row["error"]:.1e}'
    if row.get('wrong'):
        empty = [''] * (len(baselines) + len(ratios) + 2)
        return [', '.join(chosen), 'WRONG', *empty, error, f'error exceeds {row["tolerance"]:.1e}']
    ours = row['ours']['median_ms']
    times = {name: row['baselines'][name].get('median_ms') for name in baselines}
    return [
        ', '.join(chosen),
        _ms(ours),
        *('-' if times[name] is None else _ms(times[name]) for name in baselines),
        *('-' if times[name] is None else f'{times[name] / ours:.3g}' for name in ratios),
        f'{row["ratio_best"]:.3g}',
        f'{row["distance_to_roofline"]:.3g} {row["roofline"]["bound"]}',
        error,
        'holds' if row['within_limit'] else f'BROKEN (limit {_ms(row["limit_ms"])})',
    ]


def _ms(value: float) -> str:
    return f'{value:.4g}' if value < 1000 else f'{value:.0f}'


def _print_conclusion(rows: list[dict], wrong: list[dict], seconds: float) -> None:
    timed = [row for row in rows if 'ours' in row]
    reasons = {reason['skipped'] for row in timed for reason in row['baselines'].values() if 'skipped' in reason}
    reasons |= {row['skipped'] for row in rows if 'skipped' in row}
    for reason in sorted(reasons):
        print(f'- {reason}')
    if timed:
        broken = sum(not row['within_limit'] for row in timed)
        strict = sum(not row['within_limit_preconverted'] for row in timed)
        print(
            f'the rule holds in {len(timed) - broken} of {len(timed)} rows (in {len(timed) - strict} if channels_last '
            'need not be converted to)'
        )
    for row in wrong:
        label = Shape(row['name'], **row['shape']).label
        print(
            f'error: {label} {row["dtype"]} {row["pass"]}: the result differs from float64 by {row["error"]:.3g}, '
            f'tolerance {row["tolerance"]:.3g}',
            file=sys.stderr,
        )
    print(f'{len(rows)} rows of {len(PASSES)} passes in {seconds:.0f} s')

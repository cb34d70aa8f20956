"""The latency table of RepLKNet beside what ``tools/benchmark_ops.py`` measured."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmlk.analysis.tables.op import BATCH, CHANNELS, HARDWARE, KERNELS, LAYERS, MILLISECONDS, SOURCE
from mmlk.cli.grid import Grid
from mmlk.errors import UsageError


@dataclass(frozen=True)
class OpRun:
    """One run of the benchmark.

    Attributes:
        name: Device and batch.
        milliseconds: (edge of the map, kernel size) -> F.conv2d on contiguous input, ``None`` if it was not timed, and
            ours; forward in float32, of as many layers as in the table.
    """

    name: str
    milliseconds: dict[tuple[int, int], tuple[float | None, float]]


def read_runs(paths: Iterable[Path]) -> list[OpRun]:
    """The runs that measured shapes of the table.

    Args:
        paths: Result files of ``tools/benchmark_ops.py``; those of other benchmarks are passed over.

    Raises:
        UsageError: A file is no JSON.
    """
    runs = []
    for path in sorted(paths):
        try:
            results = json.loads(path.read_text())
        except ValueError as error:
            raise UsageError(
                f'expected a result file of tools/benchmark_ops.py, {path} is no JSON ({error})'
            ) from error
        if not isinstance(results, dict) or results.get('kind') != 'ops':
            continue
        batches: dict[int, dict] = {}
        for row in results['rows']:
            if _is_in_table(row):
                shape = row['shape']
                baseline = row['baselines']['contiguous'].get('median_ms')
                batches.setdefault(shape['n'], {})[shape['h'], shape['r']] = (
                    None if baseline is None else LAYERS * baseline,
                    LAYERS * row['ours']['median_ms'],
                )
        runs += [OpRun(f'{_device(results["run"])} N = {batch}', found) for batch, found in batches.items()]
    return runs


def _device(run: dict) -> str:
    machine = run['machine']
    return machine['gpu'] if run['device'] == 'cuda' else f'{machine["cpu"]} ({machine["threads"]} threads)'


def _is_in_table(row: dict) -> bool:
    shape = row['shape']
    settings = (row['pass'], row['dtype'], row['layout'])
    square = shape['h'] == shape['w'] and shape['r'] == shape['s']
    known = (shape['h'], 'PyTorch') in MILLISECONDS and shape['r'] in KERNELS and shape['c'] == CHANNELS
    return 'skipped' not in row and settings == ('forward', 'float32', 'contiguous') and square and known


def make_op_grid(runs: Iterable[OpRun]) -> Grid:
    """Published and measured milliseconds, one line per map and kernel."""
    runs = list(runs)
    columns = ['R', 'K', 'PyTorch, published', 'MegEngine, published', 'ratio, published']
    for run in runs:
        columns += [f'F.conv2d, {run.name}', f'ours, {run.name}', f'ratio, {run.name}']
    rows = []
    for edge in sorted({edge for edge, _ in MILLISECONDS}):
        for kernel, plain, fast in zip(KERNELS, MILLISECONDS[edge, 'PyTorch'], MILLISECONDS[edge, 'MegEngine']):
            cells = [str(edge), str(kernel), plain, fast, f'{float(plain) / float(fast):.1f}']
            for run in runs:
                cells += _cells(*run.milliseconds.get((edge, kernel), (None, None)))
            rows.append(cells)
    notes = [
        f'Milliseconds of {LAYERS} depthwise layers with {CHANNELS} channels on R x R maps, float32, forward. '
        f'Published: {SOURCE}, {HARDWARE}, N = {BATCH}. Measured: {LAYERS} times one layer, on the machine and with '
        'the batch N named.'
    ]
    if not runs:
        notes.append('Nothing measured here; python tools/benchmark_ops.py writes benchmarks/results/*.json.')
    return Grid('Latency of the op', columns, rows, notes)


def _cells(baseline: float | None, ours: float | None) -> list[str]:
    ratio = None if baseline is None or ours is None else baseline / ours
    return ['-' if value is None else f'{value:.1f}' for value in (baseline, ours, ratio)]


def op_json(runs: Iterable[OpRun]) -> list[dict]:
    """The same for a JSON file."""
    runs = list(runs)
    return [
        dict(
            map=edge,
            kernel=kernel,
            source=SOURCE,
            published={name: float(MILLISECONDS[edge, name][index]) for name in ('PyTorch', 'MegEngine')},
            measured={
                run.name: dict(zip(('F.conv2d', 'ours'), run.milliseconds[edge, kernel]))
                for run in runs
                if (edge, kernel) in run.milliseconds
            },
        )
        for edge in sorted({edge for edge, _ in MILLISECONDS})
        for index, kernel in enumerate(KERNELS)
    ]

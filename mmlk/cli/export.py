"""The run behind ``tools/export.py``: load, export, compare, measure, write."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

from mmlk.benchmarks.timing import interleave, make_clock
from mmlk.cli.config import load_config
from mmlk.cli.grid import Grid
from mmlk.cli.progress import make_progress
from mmlk.cli.reparam.model import Source, load_source
from mmlk.cli.run import require_file
from mmlk.errors import UsageError
from mmlk.export import FORMATS, Difference, ExportedNetwork, ExportResult, export_network
from mmlk.export.check import TOLERANCE
from mmlk.export.formats import DEFAULT_OPSET, INPUT
from mmlk.export.networks import TASKS, channel_order, normalisation
from mmlk.export.writer import require_packages
from mmlk.models import switch_to_deploy
from mmlk.version import __version__

#: The status of a run in which the file gives other outputs than the model.
DIFFERENT_STATUS = 1
#: Edge of the square example image, by host.
EDGE = {'mmpretrain': 224}
DEFAULT_EDGE = 512
#: What the second image that is compared is larger by, in pixels: rectangular, and a multiple of the largest stride.
MORE = (32, 64)


def run(args: argparse.Namespace) -> int:
    """Export the model of a config and a checkpoint as the arguments say; the exit status.

    Raises:
        UsageError: An argument, the config or the checkpoint cannot be used, or the network cannot be exported.
    """
    format = choose_format(args.out, args.format)
    if args.opset is not None and format != 'onnx':
        raise UsageError(f'--opset is for --format onnx, got {format}; leave it out')
    if args.static is not None and (args.size is None or len(args.size) != 1):
        raise UsageError('--static needs --size with one size, which is the only one the file will take')
    require_packages(format, args.exporter)
    require_file(args.checkpoint)
    check_target(args.out, [args.config, args.checkpoint], args.force)
    cfg = load_config(args)
    host = cfg.get('default_scope')
    if host not in TASKS:
        raise UsageError(f'expected a config with default_scope {", ".join(TASKS)}, got {host}')
    sizes = choose_sizes(args.size, host)
    source = load_source(cfg, args.checkpoint)
    network = ExportedNetwork(source.model, TASKS[host], args.output, args.preprocess, args.backbone).eval()
    with make_progress() as progress:
        task = progress.add_task('', total=4)
        result = export_network(
            network,
            args.out,
            format,
            sizes,
            form=args.form,
            static=args.static,
            exporter=args.exporter,
            opset=args.opset,
            metadata=describe(source, network, args),
            advance=lambda step: progress.update(task, description=step, advance=1),
        )
        milliseconds = None
        if result.equal:
            progress.update(task, description='measuring')
            milliseconds = measure(network, result, sizes[0], args.form, args.seconds)
    print_result(args.out, format, result, milliseconds, sizes[0], notes_of(cfg, network))
    return 0 if result.equal else DIFFERENT_STATUS


def choose_format(out: Path, wanted: str | None) -> str:
    """The format asked for, or that of the suffix.

    Raises:
        UsageError: The suffix is that of no format, or of another one.
    """
    for name, format in FORMATS.items():
        if wanted in (None, name) and out.suffix.lower() in format.suffixes:
            return name
    known = {name: ' or '.join(format.suffixes) for name, format in FORMATS.items() if wanted in (None, name)}
    expected = ', '.join(f'{suffixes} ({name})' for name, suffixes in known.items())
    raise UsageError(f'OUT must end in {expected}, got {out}')


def choose_sizes(given: Sequence[tuple[int, int]] | None, host: str) -> list[tuple[int, int]]:
    """Images (H, W) to compare on: those given, or one of the usual size, and a rectangular one where only one is."""
    edge = EDGE.get(host, DEFAULT_EDGE)
    sizes = list(given or [(edge, edge)])
    return sizes if len(sizes) > 1 else [*sizes, (sizes[0][0] + MORE[0], sizes[0][1] + MORE[1])]


def check_target(out: Path, sources: Sequence[str], force: bool) -> None:
    """Raise ``UsageError`` unless the file can be written; asked before anything is built."""
    if out.is_dir():
        raise UsageError(f'{out} is a directory: give the name of a file to write')
    if not out.exists():
        return
    if any(Path(source).exists() and out.samefile(source) for source in sources):
        raise UsageError(f'{out} would replace what is exported: give another OUT')
    if not force:
        raise UsageError(f'{out} exists: give another OUT, or --force to replace it')


def describe(source: Source, network: ExportedNetwork, args: argparse.Namespace) -> dict[str, str]:
    """What is written into the file: what it is, what it takes, what it gives. Values that are no text are JSON."""
    mean, std = normalisation(network.model)
    if network.preprocessing:
        values = f'pixel values from 0 to 255, {channel_order(network.model)}; the file normalises them'
    elif mean is None:
        values = f'pixel values as the test pipeline of the config gives them, {channel_order(network.model)}'
    else:
        values = f'(pixel - mean) / std, {channel_order(network.model)}'
    metadata = {
        'producer': f'mmlk {__version__}',
        'config': str(args.config),
        'checkpoint': Path(args.checkpoint).name,
        'task': network.kind,
        'output': 'feature maps' if network.kind in ('backbone', 'detection') else network.output,
        'input': values,
        'channel_order': channel_order(network.model),
        'preprocessing': 'included' if network.preprocessing else 'not included',
    }
    if mean is not None:
        metadata |= {'mean': json.dumps(mean), 'std': json.dumps(std)}
    trained = {str(key).lower(): value for key, value in (source.meta.get('dataset_meta') or {}).items()}
    if trained.get('classes'):
        metadata['classes'] = json.dumps([str(name) for name in trained['classes']], ensure_ascii=False)
    return metadata


def notes_of(cfg: Config, network: ExportedNetwork) -> list[str]:
    """What a user should know of the file."""
    notes = []
    test_cfg = cfg.model.get('test_cfg') or {}
    if network.kind == 'segmentation' and test_cfg.get('mode') == 'slide':
        crop = ' x '.join(map(str, test_cfg.get('crop_size', ())))
        notes.append(f'the config tests in windows of {crop}, the file takes the image as a whole: feed it windows')
    if network.kind == 'detection':
        notes.append('backbone and neck only: boxes need the heads, which stay in Python')
    if not network.preprocessing and normalisation(network.model)[0] is not None:
        notes.append('normalise the image before (mean and std are in the metadata), or include it with --preprocess')
    return notes


def measure(
    network: ExportedNetwork, result: ExportResult, size: tuple[int, int], form: str, seconds: float
) -> tuple[float, float]:
    """Median time (ms) of the fused model in PyTorch and of the file, one after the other, on the CPU."""
    fused = switch_to_deploy(copy.deepcopy(network), form)
    image = network.example(1, size)
    runs = {'file': lambda: result.run(image), 'model': lambda: _forward(fused, image)}
    clock, estimates = make_clock('cpu'), {}
    with torch.no_grad():
        for name, step in runs.items():
            step()
            estimates['ours' if name == 'file' else name] = clock.time(step)()
        own, others = interleave(clock, runs['file'], {'model': runs['model']}, estimates, seconds)
    return others['model'].median_ms, own.median_ms


def _forward(network: nn.Module, image: torch.Tensor) -> object:
    with torch.no_grad():
        return network(image)


def print_result(
    out: Path,
    format: str,
    result: ExportResult,
    milliseconds: tuple[float, float] | None,
    size: tuple[int, int],
    notes: Sequence[str],
) -> None:
    """Print how the file is called, how far it is from the model, and how fast it is."""
    signature = result.signature
    title = f'{FORMATS[format].title}, {result.bytes / 2**20:.1f} MiB'
    if format == 'onnx':
        title += f', opset {signature.opset or DEFAULT_OPSET[signature.exporter]}'
    example = result.differences[0].shape
    rows = [('input', INPUT, shape_text(example, signature.axes(INPUT)))]
    for name, shape in zip(signature.outputs, result.shapes, strict=True):
        rows.append(('output', name, shape_text(shape, signature.axes(name))))
    Grid(title, ('', 'name', 'shape, float32'), rows, notes).print()
    rows = [compared(difference) for difference in result.differences]
    Grid(
        'file (a) against model (b)',
        ('image', 'worst output', 'largest |a - b|', 'by the largest |b|'),
        rows,
        [verdict(result)],
    ).print()
    if milliseconds is not None:
        model, file = milliseconds
        print(
            f'one image of {size[0]} x {size[1]} on the CPU, {torch.get_num_threads()} threads: '
            f'{model:.1f} ms in PyTorch (fused, large-kernel op), {file:.1f} ms as a file'
        )
    if result.equal:
        print(f'written to {out}')


def shape_text(shape: Sequence[int], axes: dict[int, str]) -> str:
    """A shape with names in place of the axes that may change, such as ``(batch, 3, height, width)``."""
    return f'({", ".join(axes.get(axis, str(length)) for axis, length in enumerate(shape))})'


def compared(difference: Difference) -> tuple[str, ...]:
    """A row of the comparison."""
    return (
        ' x '.join(map(str, difference.shape)),
        difference.output,
        f'{difference.absolute:.1e}',
        f'{difference.relative:.1e}',
    )


def verdict(result: ExportResult) -> str:
    """One sentence: is the file what the model is?"""
    worst = max(result.differences, key=lambda difference: (not difference.equal, difference.relative))
    if result.equal:
        return f'equal: at most {worst.relative:.1e} (allowed {TOLERANCE:.0e})'
    return f'DIFFERENT: {worst.relative:.1e} (allowed {TOLERANCE:.0e}); nothing was written'

"""The run behind ``tools/visualize_erf.py``: networks, images, memory, figure, matrices, result file."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from rich.table import Table

from mmlk.analysis.erf import (
    Erf,
    ImageSource,
    Panel,
    area_ratios,
    dataset_images,
    draw_erf,
    effective_receptive_fields,
    estimate_bytes,
    folder_images,
    free_bytes,
    scene_images,
)
from mmlk.analysis.erf.figure import format_area
from mmlk.cli.backbones import Backbone, backbone_of_config, backbone_of_timm, pair_with_checkpoints
from mmlk.cli.device import resolve_device
from mmlk.cli.progress import make_progress
from mmlk.cli.summary import console_of_width
from mmlk.errors import UsageError
from mmlk.files import write_whole, written_whole
from mmlk.models import switch_to_deploy

GIB = 2**30
#: Of the free memory, what one image may need by the estimate.
SHARE = 0.8


def run(args: argparse.Namespace) -> None:
    """Draw the effective receptive fields that the arguments ask for.

    Raises:
        UsageError: Something cannot be used as given, or memory is too small.
    """
    out = Path(args.out)
    if out.suffix.lower() != '.png' or out.is_dir():
        raise UsageError(f'--out must be a file ending in .png, got {args.out}')
    pairs = pair_with_checkpoints(args.models)
    if not pairs and not args.timm:
        raise UsageError('expected a CONFIG or --timm NAME, got neither; see --help')
    device = resolve_device(args.device)
    size = (args.size[0], args.size[-1])
    backbones = _build(args, pairs, size)
    source = find_images(args, backbones, size)
    print(source)
    if source.count < source.asked:
        print(f'note: {source.asked} images were asked for, {source.description} has {source.count}: all are used')
    recompute = [must_recompute(backbone, size, device) for backbone in backbones]
    fields = measure(backbones, recompute, source, None if args.per_stage else (args.stage,), device)
    write(args, out, backbones, source, fields)


def _build(args: argparse.Namespace, pairs: list[tuple[str, str | None]], size: tuple[int, int]) -> list[Backbone]:
    backbones = []
    for path, checkpoint in pairs:
        torch.manual_seed(args.seed)
        backbones.append(backbone_of_config(path, checkpoint, args.cfg_options))
    for name in args.timm or ():
        torch.manual_seed(args.seed)
        backbones.append(backbone_of_timm(name, size))
    seen: dict[str, int] = {}
    for backbone in backbones:
        seen[backbone.name] = seen.get(backbone.name, 0) + 1
        if seen[backbone.name] > 1:
            backbone.name += f' ({seen[backbone.name]})'
        if args.form == 'deploy':
            switch_to_deploy(backbone.network)
        if not backbone.trained:
            print(f'note: {backbone.name} has random weights; its field says nothing about the trained network')
    return backbones


def find_images(args: argparse.Namespace, backbones: list[Backbone], size: tuple[int, int]) -> ImageSource:
    """The folder asked for, else the data set of the first config that has one on disk, else generated scenes."""
    if args.images is not None:
        return folder_images(args.images, args.num_images, size, args.first)
    for backbone in backbones:
        if backbone.cfg is None:
            continue
        dataset = _test_set(backbone.cfg)
        source = dataset and dataset_images(dataset, f'test set of {backbone.name}', args.num_images, size, args.first)
        if source:
            return source
    print('note: no --images and no data set of a config on disk: generated scenes are used')
    return scene_images(args.num_images, size, args.seed)


def _test_set(cfg: Config) -> object | None:
    """The validation or test set of a config, without its transforms; ``None`` where it is not there."""
    for key in ('val_dataloader', 'test_dataloader'):
        settings = (cfg.get(key) or {}).get('dataset')
        if not settings:
            continue
        settings = Config(dict(dataset=settings)).dataset
        settings['pipeline'] = []
        if cfg.get('default_scope'):
            init_default_scope(cfg.default_scope)
        try:
            return DATASETS.build(settings)
        except (OSError, ValueError, AssertionError, KeyError, TypeError, RuntimeError):
            # Its files are not there, which each host says in its own way.
            continue
    return None


def must_recompute(backbone: Backbone, size: tuple[int, int], device: str) -> bool:
    """Print what one image needs; whether blocks are to be computed twice for it to fit.

    Raises:
        UsageError: Even so, that is more than what is free.
    """
    free = free_bytes(device)
    image = f'an image of {size[0]} x {size[1]}'
    for recompute in (False, True):
        needed = estimate_bytes(backbone.network, size, recompute)
        if needed is None:
            print(f'{backbone.name}: how much memory {image} needs cannot be told beforehand')
            return False
        if free is None or needed <= SHARE * free:
            how = ', with every block computed twice to save memory' if recompute else ''
            print(f'{backbone.name}: {image} needs about {needed / GIB:.1f} GiB beside the network{how}')
            return recompute
    edges = [max(32, int(edge * (SHARE * free / needed) ** 0.5) // 32 * 32) for edge in size]
    raise UsageError(
        f'{backbone.name} needs about {needed / GIB:.1f} GiB for {image}, of {max(0, free) / GIB:.1f} GiB that are '
        f'free; give --size {edges[0]} {edges[1]} or free memory'
    )


def measure(
    backbones: list[Backbone],
    recompute: list[bool],
    source: ImageSource,
    stages: tuple[int, ...] | None,
    device: str,
) -> list[list[Erf]]:
    """The fields of every network, while a bar shows how far it is."""
    fields = []
    with make_progress() as progress:
        task = progress.add_task('', total=len(backbones) * source.count)
        for backbone, twice in zip(backbones, recompute, strict=True):
            progress.update(task, description=backbone.name)

            def advance(images: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
                for image in images:
                    yield image
                    progress.advance(task)

            images = advance(source.tensors(backbone.mean, backbone.std, backbone.bgr))
            backbone.network.to(device)
            try:
                fields.append(effective_receptive_fields(backbone.network, images, stages, twice))
            except UsageError as error:
                raise UsageError(f'{backbone.name}: {error}') from None
            # The next network may need the memory.
            backbone.network.to('cpu')
    return fields


def write(
    args: argparse.Namespace, out: Path, backbones: list[Backbone], source: ImageSource, fields: list[list[Erf]]
) -> None:
    """Write figure, matrices and result file, and print the table."""
    panels = [
        Panel(backbone.name, backbone.weights, erf, backbone.trained)
        for backbone, found in zip(backbones, fields, strict=True)
        for erf in found
    ]
    thresholds = [percent / 100 for percent in args.thresholds]
    title = f'Effective receptive field, {source}'
    columns = max(len(found) for found in fields) if args.per_stage else 4
    draw_erf(panels, out, title=title, thresholds=thresholds, scale=args.scale, columns=max(1, min(columns, 6)))
    models = []
    for backbone, found in zip(backbones, fields, strict=True):
        models.append({'name': backbone.name, 'weights': backbone.weights, 'trained': backbone.trained, 'stages': []})
        for erf in found:
            file = _matrix_file(out, backbone.name, erf.stage, len(backbones), len(found))
            _write_matrix(file, erf)
            models[-1]['stages'].append(
                {
                    'stage': erf.stage,
                    'map_size': list(erf.map_size),
                    'unit': list(erf.unit),
                    'unit_centre': list(erf.unit_centre),
                    'matrix': file.name,
                    'areas': [
                        {'threshold': area.threshold, 'side': list(area.side), 'ratio': area.ratio}
                        for area in area_ratios(erf.matrix, thresholds, args.scale)
                    ],
                }
            )
    results = {
        'kind': 'effective receptive field',
        'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        'size': list(source.size),
        'scale': args.scale,
        'form': args.form,
        'square_centre': [edge // 2 for edge in source.size],
        'images': {
            'source': source.description,
            'asked': source.asked,
            'used': source.count,
            'files': [str(file) for file in source.files],
        },
        'models': models,
    }
    result_file = out.with_suffix('.json')
    write_whole(result_file, json.dumps(results, indent=2) + '\n')
    _print_table(panels, thresholds, args.scale)
    files = [stage['matrix'] for model in models for stage in model['stages']]
    print(f'written to {out}, {result_file.name}, {", ".join(files)}')


def _matrix_file(out: Path, name: str, stage: int, num_models: int, num_stages: int) -> Path:
    parts = [out.stem]
    if num_models > 1:
        parts.append(re.sub(r'[^\w.-]+', '_', name).strip('_'))
    if num_stages > 1:
        parts.append(f'stage{stage}')
    return out.with_name('_'.join(parts) + '.npy')


def _write_matrix(file: Path, erf: Erf) -> None:
    # Given a name, NumPy would add a suffix to it.
    with written_whole(file) as partial, partial.open('wb') as stream:
        np.save(stream, erf.matrix)


def _print_table(panels: list[Panel], thresholds: list[float], scale: str) -> None:
    table = Table(title='area ratio: smallest centred square with more than t of the field, and its side in pixels')
    table.title_justify = 'left'
    for name in ('network', 'weights', 'stage'):
        table.add_column(name, no_wrap=True)
    for threshold in thresholds:
        table.add_column(f't = {100 * threshold:g} %', justify='right', no_wrap=True)
    for panel in panels:
        areas = [format_area(area) for area in area_ratios(panel.erf.matrix, thresholds, scale)]
        table.add_row(panel.name, panel.weights, str(panel.erf.stage), *areas)
    console_of_width(160).print(table)

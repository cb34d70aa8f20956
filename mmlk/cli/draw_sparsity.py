"""The run behind ``tools/draw_sparsity.py``: which weights of a checkpoint are zero, as a table and a picture."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmlk.analysis.sparsity_figure import draw_density, draw_pattern, group_layers
from mmlk.cli.summary import print_table
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.errors import UsageError
from mmlk.files import written_whole

#: Under what names checkpoints hold their weights; the first that is there.
_STATES = ('state_dict', 'model')
#: Where :class:`mmlk.engine.DynamicSparsityHook` puts its masks.
_MASKS = 'dynamic_sparsity'
#: Parts that no sparse training touches; shown only where they have zeros.
_HEADS = ('neck', 'decode_head', 'auxiliary_head', 'rpn_head', 'roi_head', 'bbox_head')
#: Layers of one pattern at most, so that the picture stays readable.
_PATTERNS = 6


@dataclass(frozen=True)
class Sparsity:
    """Which weights of a network are kept.

    Attributes:
        kept: Name of a weight -> bool tensor of its shape.
        source: Where that comes from.
    """

    kept: dict[str, Tensor]
    source: str

    @property
    def densities(self) -> dict[str, float]:
        """Share of every weight that is kept."""
        return {name: kept.float().mean().item() for name, kept in self.kept.items()}


def read_sparsity(checkpoint: object, path: Path) -> Sparsity:
    """Masks of a checkpoint, or the zeros of its weights where it has none.

    Raises:
        UsageError: It holds no weights of layers.
    """
    state = checkpoint
    for name in _STATES:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    if not isinstance(state, Mapping):
        raise UsageError(f'{path} must hold a dict of weights, got {type(state).__name__}')
    weights = {name: value for name, value in state.items() if _is_weight(value)}
    masks = checkpoint.get(_MASKS)
    if isinstance(masks, Mapping) and isinstance(masks.get('masks'), Mapping):
        return Sparsity(_from_masks(masks, weights, path), 'masks of the checkpoint')
    kept = {name: weight != 0 for name, weight in weights.items()}
    kept = {name: each for name, each in kept.items() if not name.startswith(_HEADS) or not each.all()}
    if not kept:
        raise UsageError(f'{path} must hold weights with two or four axes, found none among {len(state)} entries')
    return Sparsity(kept, 'zeros of the weights')


def _is_weight(value: object) -> bool:
    # Layer scales and norms have one axis longer than 1, whatever their shape.
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.dim() in (2, 4)
        and value.numel() > max(value.shape)
    )


def _from_masks(masks: Mapping, weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    names = {*masks['masks'], *masks.get('dense', ())}
    missing = sorted(names - set(weights))
    if missing:
        raise UsageError(f'{path} has a mask of {missing[0]} and no such weight: it is not from one network')
    kept = {}
    for name, weight in weights.items():
        if name not in names:
            continue
        mask = masks['masks'].get(name)
        try:
            kept[name] = torch.ones(weight.shape, dtype=bool) if mask is None else mask.bool().expand(weight.shape)
        except RuntimeError as error:
            raise UsageError(
                f'{path} has a mask of shape {tuple(mask.shape)} for {name} of shape {tuple(weight.shape)}'
            ) from error
    return kept


def choose_patterns(sparsity: Sparsity, part: str | None) -> dict[str, Tensor]:
    """Layers whose pattern is drawn: those whose name contains ``part``, or the sparse large kernels of stage 1.

    Raises:
        UsageError: ``part`` is in no name.
    """
    if part is not None:
        found = [name for name in sparsity.kept if part in name]
        if not found:
            examples = ', '.join(list(sparsity.kept)[:3])
            raise UsageError(f'--pattern-of {part} is part of no layer; layers are {examples}, ...')
    else:
        found = [name for name in sparsity.kept if 'stages.0.' in name and '.mixer.' in name]
        found = [name for name in found if not sparsity.kept[name].all()]
    return {name: sparsity.kept[name] for name in found[:_PATTERNS]}


def layer_rows(sparsity: Sparsity) -> list[tuple[str, str]]:
    """The table: density and counts of every layer, and of all together."""
    rows = []
    for names in group_layers(list(sparsity.kept)).values():
        for name in names:
            kept = sparsity.kept[name]
            rows.append((name, _share(int(kept.sum()), kept.numel(), 'x'.join(map(str, kept.shape)))))
    active = sum(int(kept.sum()) for kept in sparsity.kept.values())
    rows.append((f'all {len(rows)} layers', _share(active, sum(kept.numel() for kept in sparsity.kept.values()))))
    return rows


def _share(active: int, total: int, shape: str = '') -> str:
    return f'{active / total:7.2%} kept, {active:,} of {total:,} {shape}'.rstrip()


def network_rows(config: str, options: dict | None, sparsity: Sparsity, image_size: tuple[int, int]) -> list:
    """Size of the config's network by what is kept: parameters and multiply-accumulates.

    Raises:
        UsageError: The checkpoint is not of this network.
    """
    from mmengine.registry import MODELS, init_default_scope

    from mmlk.analysis.complexity import sparse_complexity
    from mmlk.cli.config import read_config

    cfg = read_config(config, options)
    init_default_scope(cfg.default_scope)
    parts = {name: part for name, part in cfg.model.items() if name not in ('data_preprocessor', 'train_cfg')}
    with warnings.catch_warnings(), torch.device('meta'):
        # The hosts warn of their own deprecated functions.
        warnings.simplefilter('ignore')
        model: nn.Module = MODELS.build(parts)
    classifier = cfg.default_scope == 'mmpretrain'
    network, prefix = (model, '') if classifier else (model.backbone, 'backbone.')
    masks = {name.removeprefix(prefix): kept for name, kept in sparsity.kept.items() if name.startswith(prefix)}
    try:
        found = sparse_complexity(network, image_size, masks)
    except ValueError as error:
        raise UsageError(f'the checkpoint does not fit {config}: {error}') from error
    title = 'network' if classifier else 'backbone'
    return [
        (f'{title}, parameters', f'{found.nonzero.params / 1e6:.2f} M not zero of {found.dense.params / 1e6:.2f} M'),
        (
            f'{title}, MACs at {image_size[0]} x {image_size[1]}',
            f'{found.nonzero.macs / 1e9:.3f} G of {found.dense.macs / 1e9:.3f} G',
        ),
    ]


def run(args: argparse.Namespace) -> None:
    """Read, draw, print.

    Raises:
        UsageError: The checkpoint holds no weights, or does not fit the config, or a name is wrong.
    """
    if args.out.suffix.lower() != '.png' or args.out.is_dir():
        raise UsageError(f'--out must be a .png file to write, got {args.out}')
    sparsity = read_sparsity(load_checkpoint_file(args.checkpoint, map_location='cpu'), args.checkpoint)
    patterns = choose_patterns(sparsity, args.pattern_of)
    rows = layer_rows(sparsity)
    if args.config is not None:
        rows += network_rows(args.config, args.cfg_options, sparsity, args.image_size)
    pictures = [draw_density(sparsity.densities)]
    if patterns:
        pictures.append(draw_pattern(patterns))
    write_png(stack(pictures), args.out)
    print_table(f'{args.checkpoint.name}: {sparsity.source}', [*rows, ('written to', str(args.out))])


def stack(pictures: list[np.ndarray]) -> np.ndarray:
    """RGB images one below the other, on white."""
    width = max(picture.shape[1] for picture in pictures)
    padded = [
        np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255) for picture in pictures
    ]
    return np.concatenate(padded)


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write an RGB image; the file appears only when it is complete."""
    from matplotlib.image import imsave

    with written_whole(path) as partial:
        imsave(partial, picture, format='png')

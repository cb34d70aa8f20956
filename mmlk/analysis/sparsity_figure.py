"""Figures of sparse networks: the density of every layer, and which weights of the large kernels are left."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

#: Layers up to which each bar has its name below.
NAMED_BARS = 24

#: Pixels of the pattern of one layer at most; of larger ones, kernels spread evenly are shown.
PATTERN_PIXELS = 40_000

_DPI = 110
_PRUNED = '0.9'
#: Colours of the pattern: pruned, kept, between the kernels.
_PATTERN_COLOURS = np.array([[255, 255, 255], [20, 60, 110], [203, 211, 221]], np.float64)
#: Width over height of a pattern, about.
_ASPECT = 3.2


class Layer(NamedTuple):
    """What the name of a weight says about it.

    Attributes:
        group: 'stem', 'stage 1', ..., 'head' or 'other'.
        kind: Role within its block, such as 'ffn.fc1'; the same in every block.
        label: Short name within its group.
    """

    group: str
    kind: str
    label: str


def parse_name(name: str) -> Layer:
    """Stage and role of a weight of an mmlk network, by its name.

    Example:
        >>> parse_name('backbone.stages.2.blocks.10.mixer.paths.1')
        Layer(group='stage 3', kind='mixer.paths', label='10 mixer.paths.1')
    """
    name = re.sub(r'^(module|backbone)\.', '', re.sub(r'^module\.', '', name))
    name = re.sub(r'[._]weight$', '', name)
    block = re.match(r'stages\.(\d+)\.(?:blocks\.)?(?:(\d+)\.)?(.+)$', name)
    if block:
        stage, index, rest = block.groups()
        label = rest if index is None else f'{index} {rest}'
        return Layer(f'stage {int(stage) + 1}', re.sub(r'\.\d+', '', rest), label)
    downsample = re.match(r'downsample_layers\.(\d+)', name)
    if downsample:
        stage = int(downsample[1])
        return Layer(f'stage {stage + 1}' if stage else 'stem', 'downsample' if stage else 'stem', name)
    group = next((group for group in ('stem', 'head') if group in name.split('.')[0]), 'other')
    return Layer(group, re.sub(r'\.\d+', '', name), name)


def group_layers(names: Sequence[str]) -> dict[str, list[str]]:
    """Names by group, in the order of the network: stem, stages, head, others; within a group as they come."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(parse_name(name).group, []).append(name)

    def place(group: str) -> tuple[int, str]:
        rank = {'stem': 0, 'head': 2, 'other': 3}.get(group, 1)
        return rank, f'{group:>12}'

    return {group: groups[group] for group in sorted(groups, key=place)}


def draw_density(densities: Mapping[str, float]) -> np.ndarray:
    """Draw the density of every layer as bars, grouped by stage and coloured by role.

    Args:
        densities: Name of a weight -> share of its entries that is not zero, 0 to 1.

    Returns:
        RGB image (H, W, 3), uint8.

    Raises:
        ValueError: There is no layer, or a density lies outside [0, 1].
    """
    if not densities:
        raise ValueError('densities must hold at least one layer, got none')
    for name, density in densities.items():
        if not 0 <= density <= 1:
            raise ValueError(f'the density of {name} must be within [0, 1], got {density}')
    groups = group_layers(list(densities))
    layers = {name: parse_name(name) for name in densities}
    kinds = list(dict.fromkeys(layers[name].kind for names in groups.values() for name in names))
    colours = {kind: colormaps['tab20'](_colour_index(index)) for index, kind in enumerate(kinds)}
    named = len(densities) <= NAMED_BARS
    width = min(16.0, max(7.0, 2.0 + 0.115 * len(densities)))
    rows = -(-len(kinds) // _legend_columns(width))
    figure = Figure(figsize=(width, 3.4 + 0.24 * rows + (1.3 if named else 0)), dpi=_DPI, layout='constrained')
    axis = figure.subplots()
    position, centers, ticks = 0.0, [], []
    for group, names in groups.items():
        start = position
        for name in names:
            axis.bar(position, 1, 0.86, color=_PRUNED, zorder=1)
            axis.bar(position, densities[name], 0.86, color=colours[layers[name].kind], zorder=2)
            ticks.append((position, layers[name].label))
            position += 1
        centers.append(((start + position - 1) / 2, group))
        position += 1
    axis.set(xlim=(-1, position - 1), ylim=(0, 1), ylabel='density (share of weights kept)')
    axis.grid(axis='y', color='0.75', linewidth=0.6, zorder=0)
    axis.spines[['top', 'right']].set_visible(False)
    axis.set_xticks([place for place, _ in ticks] if named else [])
    if named:
        axis.set_xticklabels([label for _, label in ticks], rotation=55, ha='right', fontsize=7, rotation_mode='anchor')
        axis.tick_params(axis='x', length=2)
    _label_groups(axis, centers)
    values = list(densities.values())
    figure.suptitle(
        f'{len(values)} layers, density {min(values):.2f} to {max(values):.2f}', fontsize=10, x=0.01, ha='left'
    )
    handles = [Patch(facecolor=colours[kind], label=kind) for kind in kinds]
    figure.legend(handles=handles, loc='outside lower center', ncols=_legend_columns(width), fontsize=8, frameon=False)
    return _render(figure)


def draw_pattern(patterns: Mapping[str, torch.Tensor | np.ndarray]) -> np.ndarray:
    """Draw which weights of some layers are kept: a mosaic of kernels per layer, dark for kept, white for pruned.

    Args:
        patterns: Name of a layer -> its weights or its mask: kernels (C, 1, R, S), or a matrix (or dense kernels) of
            which each pixel shows the share that is kept.

    Returns:
        RGB image (H, W, 3), uint8.

    Raises:
        ValueError: There is no layer, or one has neither two nor four axes.
    """
    if not patterns:
        raise ValueError('patterns must hold at least one layer, got none')
    pictures, titles = [], []
    for name, weight in patterns.items():
        kept = np.asarray(weight.detach().cpu() if isinstance(weight, torch.Tensor) else weight) != 0
        if kept.ndim not in (2, 4):
            raise ValueError(f'{name} must have two or four axes, got shape {kept.shape}')
        if kept.ndim == 4 and kept.shape[1] == 1:
            picture, shown = _mosaic(kept[:, 0])
            what = f'{shown} of {len(kept)} kernels {kept.shape[2]} x {kept.shape[3]}'
        else:
            picture, what = _shares(kept.reshape(len(kept), -1)), 'matrix ' + ' x '.join(map(str, kept.shape))
        pictures.append(picture)
        titles.append(f'{name}: {kept.mean():.1%} kept ({what})')
    width = 8.0
    heights = [width * len(picture) / picture.shape[1] + 0.32 for picture in pictures]
    figure = Figure(figsize=(width + 0.2, sum(heights) + 0.1), dpi=_DPI, layout='constrained')
    axes = figure.subplots(len(pictures), 1, squeeze=False, gridspec_kw={'height_ratios': heights})[:, 0]
    for axis, picture, title in zip(axes, pictures, titles, strict=True):
        # Where a weight is smaller than a pixel of the figure, neighbours are averaged.
        axis.imshow(picture, interpolation='antialiased', interpolation_stage='rgba')
        axis.set_title(title, fontsize=8, loc='left')
        axis.set_axis_off()
    return _render(figure)


def _mosaic(kept: np.ndarray) -> tuple[np.ndarray, int]:
    """Kernels (C, R, S) side by side with a line between them, and how many they are."""
    rows, columns = kept.shape[1] + 1, kept.shape[2] + 1
    shown = min(len(kept), max(1, PATTERN_PIXELS // (rows * columns)))
    chosen = kept[np.linspace(0, len(kept) - 1, shown).round().astype(int)]
    across = min(shown, max(1, round(math.sqrt(_ASPECT * shown * rows / columns))))
    down = -(-shown // across)
    indices = np.full((down * across, rows, columns), 2)
    indices[:shown, :-1, :-1] = chosen
    mosaic = indices.reshape(down, across, rows, columns).transpose(0, 2, 1, 3).reshape(down * rows, across * columns)
    return _PATTERN_COLOURS[np.pad(mosaic, ((1, 0), (1, 0)), constant_values=2)].astype(np.uint8), shown


def _shares(kept: np.ndarray) -> np.ndarray:
    """A matrix, the longer axis across, shrunk so that each pixel is the share of its block that is kept."""
    if len(kept) > kept.shape[1]:
        kept = kept.T
    # Blocks are equal but for the last ones; 112 x 360 of them fill PATTERN_PIXELS.
    for axis, limit in ((0, 112), (1, 360)):
        edges = np.unique(np.linspace(0, kept.shape[axis], min(limit, kept.shape[axis]) + 1).astype(int))
        sums = np.add.reduceat(kept.astype(np.float64), edges[:-1], axis)
        kept = sums / np.diff(edges).reshape((-1, 1) if axis == 0 else (1, -1))
    pruned, full, _ = _PATTERN_COLOURS
    return (pruned + kept[..., None] * (full - pruned)).astype(np.uint8)


def _label_groups(axis, centers: list[tuple[float, str]]) -> None:
    """Names of the groups above the bars, in a second row where they would touch."""
    span = axis.get_xlim()[1] - axis.get_xlim()[0]
    # Characters of size 8 that fit into the width of the axis.
    room = axis.figure.get_figwidth() * 14
    ends = [-math.inf, -math.inf]
    for center, group in centers:
        half = span * (len(group) + 2) / room / 2
        row = 0 if center - half > ends[0] else 1
        ends[row] = center + half
        axis.annotate(
            group, (center, 1), (0, 3 + 11 * row), xycoords='data', textcoords='offset points', ha='center', fontsize=8
        )


def _colour_index(index: int) -> int:
    # The ten strong colours first, then the ten pale ones.
    return 2 * index % 20 + index // 10 % 2


def _legend_columns(width: float) -> int:
    return max(3, int(width / 1.6))


def _render(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

"""Pictures of kernels: what a stage has learned, branch by branch and fused, and how PeLK shares parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from torch import nn

from mmlk.errors import UsageError
from mmlk.files import written_whole
from mmlk.models import BaseMixer, make_sharing_grid
from mmlk.models.reparam import Branch, fold_norm, pad_kernel

#: Smallest edge of a depthwise convolution outside of our mixers that is worth a picture.
MIN_EDGE = 5


@dataclass(frozen=True, eq=False)
class KernelBlock:
    """The kernels of one large convolution, all of the fused size and in its unit, so that the branches add up to it.

    Attributes:
        name: Where it is in the stage.
        branches: Label and kernels (C, R, S) of every train-time branch, its BatchNorm folded; empty when fused.
        fused: Kernels (C, R, S).
    """

    name: str
    branches: tuple[tuple[str, NDArray[np.float64]], ...]
    fused: NDArray[np.float64]


@torch.no_grad()
def stage_kernels(stage: nn.Module) -> list[KernelBlock]:
    """The large depthwise kernels of a stage, in order: of our mixers, and of other networks' convolutions.

    Args:
        stage: One stage, or any other part of a network.

    Raises:
        UsageError: There is none.
    """
    blocks, inside = [], set()
    for name, module in stage.named_modules():
        if module in inside:
            continue
        if isinstance(module, BaseMixer):
            inside.update(module.modules())
            convs = module.reparam_convs
            # Grouped for the fused form, because an identity becomes a tap only there.
            groups = [[Branch(conv.weight) for conv in convs]] if convs is not None else module.group_branches('dense')
            blocks.append(_block(name, [branch for group in groups for branch in group]))
        elif _is_large_depthwise(module):
            blocks.append(_block(name, [Branch(module.weight)]))
    if not blocks:
        raise UsageError(
            f'expected depthwise kernels with an edge of {MIN_EDGE} or more in the stage, found none; choose another'
        )
    return blocks


def _is_large_depthwise(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or not 1 < module.groups == module.in_channels == module.out_channels:
        return False
    return max(module.kernel_size) >= MIN_EDGE and all(edge % 2 for edge in module.kernel_size)


def _block(name: str, branches: Sequence[Branch]) -> KernelBlock:
    kernels = [fold_norm(branch)[0] for branch in branches]
    size = tuple(max(kernel.shape[axis] for kernel in kernels) for axis in (2, 3))
    padded = [pad_kernel(kernel, size).squeeze(1).cpu().numpy() for kernel in kernels]
    labels = [f'{kernel.shape[2]} x {kernel.shape[3]}' for kernel in kernels]
    shown = tuple(zip(labels, padded, strict=True)) if len(padded) > 1 else ()
    return KernelBlock(name, shown, sum(padded[1:], padded[0]))


def draw_kernels(block: KernelBlock, path: str | Path | None = None, *, title: str = '', channels: int = 8) -> Figure:
    """Draw kernels of some channels as a grid: a row per branch and one of their sum, a column per channel.

    All kernels of a column have one colour scale, symmetric about zero. The last column is the mean of the absolute
    values over all channels, brighter for larger.

    Args:
        block: The kernels.
        path: PNG to write; it appears only when it is complete. ``None`` writes nothing.
        title: Line on top.
        channels: How many, spread evenly over all.

    Returns:
        The figure.
    """
    total = len(block.fused)
    chosen = sorted({index * total // channels for index in range(channels)})
    rows = [*block.branches, ('fused' if block.branches else 'kernel', block.fused)]
    width, height = 1.15 * (len(chosen) + 1) + 0.7, 1.2 * len(rows) + 0.9
    figure = Figure(figsize=(width, height), layout='constrained')
    if title:
        figure.suptitle(title, fontsize=9)
    axes = figure.subplots(len(rows), len(chosen) + 1, squeeze=False)
    limits = [np.abs(block.fused[channel]).max() or 1.0 for channel in chosen]
    means = [np.abs(kernels).mean(0) for _, kernels in rows]
    brightest = max(mean.max() for mean in means) or 1.0
    for row, ((label, kernels), mean) in enumerate(zip(rows, means, strict=True)):
        for axis, channel, limit in zip(axes[row], chosen, limits):
            axis.imshow(kernels[channel], cmap='RdBu_r', vmin=-limit, vmax=limit, interpolation='nearest')
            if row == 0:
                axis.set_title(f'channel {channel}', fontsize=7)
        axes[row, -1].imshow(mean, cmap='magma', vmin=0, vmax=brightest, interpolation='nearest')
        axes[row, 0].set_ylabel(label, fontsize=8)
    axes[0, -1].set_title('mean |w|', fontsize=7)
    for axis in axes.ravel():
        axis.xaxis.set_major_locator(NullLocator())
        axis.yaxis.set_major_locator(NullLocator())
    return _save(figure, path)


def draw_sharing_grid(
    kernel_size: int, path: str | Path | None = None, *, grid: Sequence[int] | None = None, center_radius: int = 2
) -> Figure:
    """Draw which taps of a peripheral K x K kernel share a parameter (PeLK, arXiv 2403.07589, Eq. 1 and 2).

    Args:
        kernel_size: Edge K, odd.
        path: PNG to write; ``None`` writes nothing.
        grid: Group sizes along an axis; ``None`` makes the paper's.
        center_radius: Of the fine centre, where ``grid`` is ``None``, in taps.

    Returns:
        The figure.

    Raises:
        ValueError: The grid does not add up to K.
    """
    groups = make_sharing_grid(kernel_size, center_radius) if grid is None else tuple(grid)
    if sum(groups) != kernel_size:
        raise ValueError(f'grid must add up to kernel_size {kernel_size}, got {groups}, which adds up to {sum(groups)}')
    edges = np.cumsum((0, *groups)) - 0.5
    taps = np.repeat(groups, groups)
    shared = np.outer(taps, taps)
    figure = Figure(figsize=(5.6, 5.2), layout='constrained')
    axis = figure.subplots()
    image = axis.imshow(shared, cmap='viridis_r', norm=LogNorm(1, max(2, shared.max())), interpolation='nearest')
    for edge in edges:
        axis.axhline(edge, color='white', linewidth=0.6)
        axis.axvline(edge, color='white', linewidth=0.6)
    middles = (edges[:-1] + edges[1:]) / 2
    # Single taps have no room for a number each; the fine centre gets one label.
    labelled = [(middle, str(size)) for middle, size in zip(middles, groups, strict=True) if size > 1]
    fine = [middle for middle, size in zip(middles, groups, strict=True) if size == 1]
    if fine:
        labelled.append((float(np.mean(fine)), '1' if len(fine) == 1 else f'{len(fine)} x 1'))
    labelled.sort()
    axis.set_xticks([middle for middle, _ in labelled], [text for _, text in labelled], fontsize=7)
    axis.set_yticks([middle for middle, _ in labelled], [text for _, text in labelled], fontsize=7)
    axis.tick_params(length=2)
    axis.set_xlabel('taps per group', fontsize=8)
    axis.set_title(
        f'{kernel_size} x {kernel_size} taps, {len(groups)} x {len(groups)} = {len(groups) ** 2} parameters '
        f'instead of {kernel_size**2}',
        fontsize=9,
    )
    bar = figure.colorbar(image, ax=axis, shrink=0.8)
    counts = [int(count) for count in np.unique(shared) if count in (1, shared.max()) or int(count).bit_count() == 1]
    bar.set_ticks(counts, labels=[str(count) for count in counts], minor=False)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_label('taps that share one parameter', fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return _save(figure, path)


def _save(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        with written_whole(path) as partial:
            FigureCanvasAgg(figure).print_png(str(partial))
    return figure

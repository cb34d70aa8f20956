"""Effective receptive fields side by side, with the table of their areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmlk.analysis.erf.area import THRESHOLDS, Area, area_ratios, scale_map
from mmlk.analysis.erf.matrix import Erf
from mmlk.files import written_whole

#: One hue from dark to light: readable without colour vision, and zero is black, not a colour of its own.
COLOURS = 'magma'

#: Share of the sum in the pixels that get the brightest colour: a few outliers must not leave the rest black. By the
#: sum, because by the number of pixels faint tails would be drawn as if they counted.
BRIGHT = 0.1

#: Panels beside each other, and their edge in inches.
COLUMNS = 4
EDGE = 3.0

#: Outlines of the areas, dashed ever more tightly with the share.
STYLES = ('-', '--', '-.', ':')
OUTLINE = '#7fe0ff'

#: Pixels a panel has room for; larger maps are averaged, or thin lines would fall between pixels.
PANEL_PIXELS = 512


@dataclass(frozen=True, eq=False)
class Panel:
    """One field of a figure.

    Attributes:
        name: Name of the network.
        weights: What its weights are, such as ``'random weights'``.
        erf: The field.
        trained: ``False`` prints ``weights`` in red: random ones say nothing about a trained network.
    """

    name: str
    weights: str
    erf: Erf
    trained: bool = True


def draw_erf(
    panels: Sequence[Panel],
    path: str | Path | None = None,
    *,
    title: str = '',
    thresholds: Sequence[float] = THRESHOLDS,
    scale: str = 'log',
    columns: int = COLUMNS,
) -> Figure:
    """Draw fields side by side, the areas outlined, and below them the table of area ratios in percent.

    Args:
        panels: The fields, at least one.
        path: PNG to write; it appears only when it is complete. ``None`` writes nothing.
        title: Line on top, such as the number of images and their source.
        thresholds: Shares whose areas are outlined and listed, fractions.
        scale: As for :func:`scale_map`.
        columns: Panels beside each other.

    Returns:
        The figure.

    Raises:
        ValueError: There is no panel, or a map, threshold or scale cannot be used.
    """
    if not panels:
        raise ValueError('a figure needs at least one panel, got none')
    columns = min(len(panels), columns)
    rows = -(-len(panels) // columns)
    tallest = max(panel.erf.matrix.shape[0] / panel.erf.matrix.shape[1] for panel in panels)
    table_height = 0.25 * (len(panels) + 1) + 0.1
    height, width = rows * (EDGE * min(tallest, 2) + 0.55), max(columns * (EDGE + 0.35) + 0.9, 6.8)
    figure = Figure(figsize=(width, height + table_height + 0.35), layout='constrained')
    if title:
        figure.suptitle(title, fontsize=10)
    upper, lower = figure.subfigures(2, 1, height_ratios=(height, table_height))
    axes = upper.subplots(rows, columns, squeeze=False).ravel()
    areas = [area_ratios(panel.erf.matrix, thresholds, scale) for panel in panels]
    for axis, panel, found in zip(axes, panels, areas):
        image = _draw_panel(axis, panel, found, scale)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    formula = 'log10(contribution + 1)' if scale == 'log' else 'contribution'
    bar = upper.colorbar(image, ax=list(axes), shrink=0.8, aspect=25, extend='max')
    bar.set_label(f'{formula}, brightest tenth = 1', fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _draw_table(lower, panels, areas)
    if path is not None:
        with written_whole(path) as partial:
            FigureCanvasAgg(figure).print_png(str(partial))
    return figure


def _draw_panel(axis: Axes, panel: Panel, areas: Sequence[Area], scale: str):
    scaled = scale_map(panel.erf.matrix, scale)
    height, width = scaled.shape
    block = max(1, round(max(height, width) / PANEL_PIXELS))
    shown = scaled[: height // block * block, : width // block * block]
    means = shown.reshape(height // block, block, width // block, block).mean((1, 3))
    extent = (0, shown.shape[1], shown.shape[0], 0)
    falling = np.sort(means, axis=None)[::-1]
    brightest = falling[np.searchsorted(falling.cumsum(), BRIGHT * falling.sum())]
    image = axis.imshow(means / brightest, cmap=COLOURS, vmin=0, vmax=1, interpolation='antialiased', extent=extent)
    axis.set_title(panel.name, fontsize=10, pad=16)
    line = f'{panel.weights}, stage {panel.erf.stage}'
    axis.text(
        0.5,
        1.025,
        line,
        transform=axis.transAxes,
        ha='center',
        fontsize=8,
        color='0.25' if panel.trained else '#c00000',
    )
    for number, area in enumerate(areas):
        top, left = height // 2 - area.side[0] // 2, width // 2 - area.side[1] // 2
        axis.add_patch(
            Rectangle(
                (max(left, 0), max(top, 0)),
                area.side[1],
                area.side[0],
                fill=False,
                linewidth=0.9,
                edgecolor=OUTLINE,
                linestyle=STYLES[number % len(STYLES)],
            )
        )
    axis.set_xticks([0, width // 2, width])
    axis.set_yticks([0, height // 2, height])
    axis.tick_params(labelsize=7)
    return image


def _draw_table(part, panels: Sequence[Panel], areas: Sequence[Sequence[Area]]) -> None:
    axis = part.subplots()
    axis.set_axis_off()
    header = ['area ratio', 'weights', 'stage']
    header += [f't = {100 * area.threshold:g} % {_dash(number)}' for number, area in enumerate(areas[0])]
    cells = [
        [panel.name, panel.weights, str(panel.erf.stage), *(format_area(area) for area in found)]
        for panel, found in zip(panels, areas, strict=True)
    ]
    table = axis.table(cells, colLabels=header, loc='center', cellLoc='center', edges='horizontal')
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(header))))
    table.scale(1, 1.15)
    for column in range(len(header)):
        table[0, column].get_text().set_weight('bold')


def format_area(area: Area) -> str:
    """An area ratio with its side, such as ``22.4 % (485)``."""
    height, width = area.side
    return f'{100 * area.ratio:.1f} % ({height if height == width else f"{height} x {width}"})'


def _dash(number: int) -> str:
    return ('——', '- -', '-·-', '···')[number % len(STYLES)]

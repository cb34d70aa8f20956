"""Input, label and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmlk.files import written_whole

#: Colour of pixels without a label.
IGNORED_COLOUR = (255, 255, 255)

#: Classes in the legend; an untrained network predicts far more than fit.
LEGEND_LIMIT = 18


def draw_segmentation(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    path: str | Path,
) -> None:
    """Draw one row per image: input, label, prediction; with a legend of the classes labelled
    and of the largest others predicted.

    Args:
        images: RGB images (H, W, 3), uint8.
        labels: Class indices (H, W); anything outside ``range(len(classes))`` is drawn white, as not labelled.
        predictions: Class indices (H, W).
        classes: Names.
        palette: RGB colours, 0 to 255, one per class.
        path: PNG to write; it appears only when it is complete.
    """
    colours = np.array([*palette, IGNORED_COLOUR], dtype=np.uint8)
    rows = len(images)
    figure = Figure(figsize=(7.2, 2.25 * rows + 1.0), layout='constrained')
    axes = figure.subplots(rows, 3, squeeze=False)
    for row, (image, label, prediction) in enumerate(zip(images, labels, predictions, strict=True)):
        for axis, picture in zip(axes[row], (image, _paint(label, colours), _paint(prediction, colours)), strict=True):
            axis.imshow(picture, interpolation='nearest')
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, title in zip(axes[0], ('input', 'label', 'prediction'), strict=True):
        axis.set_title(title, fontsize=11)
    shown, more = _legend_classes(labels, predictions, len(classes))
    handles = [Patch(facecolor=colours[index] / 255, edgecolor='0.4', label=classes[index].strip()) for index in shown]
    handles.append(Patch(facecolor='white', edgecolor='0.4', label='not labelled'))
    if more:
        handles.append(Patch(facecolor='none', label=f'and {more} more predicted'))
    figure.legend(handles=handles, loc='outside lower center', ncols=5, fontsize=9, frameon=False)
    with written_whole(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))


def _legend_classes(
    labels: Sequence[np.ndarray], predictions: Sequence[np.ndarray], num_classes: int
) -> tuple[list[int], int]:
    """Labelled classes, then predicted ones by area as far as the legend holds them, and how many it does not."""
    areas = []
    for maps in (labels, predictions):
        indices = np.concatenate([one.ravel() for one in maps])
        areas.append(np.bincount(indices[(indices >= 0) & (indices < num_classes)], minlength=num_classes))
    labelled = [int(index) for index in np.flatnonzero(areas[0])]
    extra = [int(index) for index in np.argsort(-areas[1]) if areas[1][index] and not areas[0][index]]
    room = max(0, LEGEND_LIMIT - len(labelled))
    return labelled + extra[:room], len(extra[room:])


def _paint(indices: np.ndarray, colours: np.ndarray) -> np.ndarray:
    last = len(colours) - 1
    return colours[np.where((indices >= 0) & (indices < last), indices, last)]

"""How far colour alone goes on the ImageNet demo: classifiers that see how much there is of each colour, not where."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mmlk.datasets.demo.imagenet import list_file
from mmlk.errors import UsageError

NEIGHBOURS = 7


def picture_colour_baseline(data_root: str | Path, bits: int = 2) -> float:
    """Learn from the colours of the training pictures, classify the validation pictures.

    Every colour is rounded to ``bits`` bits per channel and counted. Two answers are tried, the class under which the
    counts are most likely and the most frequent class among the pictures with the most similar counts (Bhattacharyya
    coefficient), and the better is returned: the baseline should be as strong as colour can make it.

    Args:
        data_root: A folder that ``generate_imagenet`` made.
        bits: Bits kept of every channel, 1 to 8.

    Returns:
        Top-1 accuracy as a fraction.

    Raises:
        UsageError: A list is missing.
    """
    counts, labels = _counts(Path(data_root), 'train', bits)
    asked, truth = _counts(Path(data_root), 'val', bits)
    classes = np.unique(labels)
    frequency = np.stack([counts[labels == label].sum(axis=0) + 1 for label in classes])
    likelihood = asked @ np.log(frequency / frequency.sum(axis=1, keepdims=True)).T
    answers = [classes[likelihood.argmax(axis=1)]]

    roots, asked_roots = (np.sqrt(each / each.sum(axis=1, keepdims=True)) for each in (counts, asked))
    nearest = np.argsort(-asked_roots @ roots.T, axis=1)[:, :NEIGHBOURS]
    votes = (labels[nearest][:, :, None] == classes).sum(axis=1)
    answers.append(classes[votes.argmax(axis=1)])
    return float(max((answer == truth).mean() for answer in answers))


def _counts(data_root: Path, split: str, bits: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels per colour (pictures, colours), and the class of every picture."""
    path = data_root / list_file(split)
    if not path.is_file():
        raise UsageError(f'The colour baseline needs {path}, found no such file; generate the demo data first.')
    counts, labels = [], []
    for line in path.read_text(encoding='utf-8').splitlines():
        name, label = line.rsplit(maxsplit=1)
        image = cv2.imread(str(data_root / split / name), cv2.IMREAD_COLOR).astype(np.int64) >> (8 - bits)
        blue, green, red = np.moveaxis(image, -1, 0)
        colours = (blue << (2 * bits)) + (green << bits) + red
        counts.append(np.bincount(colours.ravel(), minlength=1 << (3 * bits)))
        labels.append(int(label))
    return np.asarray(counts, np.float64), np.asarray(labels)

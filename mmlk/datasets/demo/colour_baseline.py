"""How far colour alone goes on the demo data: a Bayes classifier that sees one pixel at a time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mmlk.errors import UsageError

_CLASSES = 151  # ADE20K label values, 0 (ignored) included


def colour_baseline(data_root: str | Path, bits: int = 5) -> float:
    """Train on the colours of the training split, predict the validation split.

    Every colour is rounded to ``bits`` bits per channel and gets the class most likely under it. Two answers are tried,
    the most probable class and the most typical one (classes weighted alike), and the better is returned: the baseline
    should be as strong as colour can make it.

    Args:
        data_root: An ``ADEChallengeData2016`` folder.
        bits: Bits kept of every channel, 1 to 8.

    Returns:
        Mean IoU as a fraction over the classes present in the validation labels; label 0 is left out.

    Raises:
        UsageError: A split is missing or empty.
    """
    counts = np.zeros((_CLASSES, 1 << (3 * bits)), np.int64)
    for colours, labels in _pixels(Path(data_root), 'training', bits):
        np.add.at(counts, (labels, colours), 1)
    counts[0] = 0
    frequency = counts.sum(axis=1, keepdims=True)
    # Smoothing decides colours never seen in training: they get the most frequent, or any, class.
    smoothed = counts + 0.5 * (frequency > 0)
    answers = [np.argmax(smoothed, axis=0), np.argmax(smoothed / np.maximum(frequency, 1), axis=0)]

    confusion = np.zeros((len(answers), _CLASSES, _CLASSES), np.int64)
    for colours, labels in _pixels(Path(data_root), 'validation', bits):
        for matrix, answer in zip(confusion, answers):
            pairs = labels.astype(np.int64) * _CLASSES + answer[colours]
            matrix += np.bincount(pairs[labels > 0], minlength=_CLASSES**2).reshape(_CLASSES, _CLASSES)
    return max(_mean_iou(matrix) for matrix in confusion)


def _pixels(data_root: Path, split: str, bits: int):
    """Yield (colour index, label) of every picture of a split, flattened."""
    images = sorted((data_root / 'images' / split).glob('*.jpg'))
    if not images:
        raise UsageError(f'The colour baseline needs pictures in {data_root / "images" / split}, found none.')
    for path in images:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR).astype(np.int64) >> (8 - bits)
        label = cv2.imread(str(data_root / 'annotations' / split / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
        blue, green, red = np.moveaxis(image, -1, 0)
        yield ((blue << (2 * bits)) + (green << bits) + red).ravel(), label.ravel()


def _mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean IoU over the classes that occur; rows are truth, columns predictions."""
    truth, predicted, correct = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    present = truth > 0
    return float(np.mean(correct[present] / (truth + predicted - correct)[present]))

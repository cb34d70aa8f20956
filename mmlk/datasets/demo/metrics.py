"""Mean IoU over some of a data set's classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmseg.evaluation.metrics import IoUMetric

from mmlk.errors import UsageError
from mmlk.registry import METRICS


@METRICS.register_module()
class SubsetIoUMetric(IoUMetric):
    """Mean IoU (per cent) over named classes, or over the classes that occur in the ground truth.

    mmseg's ``mIoU`` averages over every class that is predicted *or* occurs, so on data that shows 11 of 150 classes
    one stray pixel adds a class with IoU 0. Here a class without ground truth never counts.

    Args:
        classes: Names as in the data set's METAINFO; None for all. Those without ground truth are left out.
        prefix: Put before the metric's name, ``'far'`` gives ``far/mIoU``.
        **kwargs: Passed to mmseg's ``IoUMetric``.

    Note:
        A mean over no class at all is NaN.
    """

    def __init__(self, classes: Sequence[str] | None = None, prefix: str | None = None, **kwargs) -> None:
        super().__init__(iou_metrics=['mIoU'], prefix=prefix, **kwargs)
        self.classes = None if classes is None else tuple(classes)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average the IoU of the chosen classes.

        Args:
            results: One (intersection, union, predicted area, true area) per image, each (num_classes,).

        Returns:
            ``mIoU`` in per cent.

        Raises:
            UsageError: The data set has no class of a given name.
        """
        intersection, union, _, truth = (
            np.sum([np.asarray(area, np.float64) for area in areas], axis=0) for areas in zip(*results)
        )
        chosen = truth > 0
        if self.classes is not None:
            chosen &= self._named(self.dataset_meta['classes'])
        if not chosen.any():
            return {'mIoU': float('nan')}
        return {'mIoU': round(100 * float(np.mean(intersection[chosen] / union[chosen])), 2)}

    def _named(self, known: Sequence[str]) -> np.ndarray:
        """Mark the named classes among those of the data set."""
        # ADE20K's own list has a stray blank in 'bed '.
        known = [name.strip() for name in known]
        unknown = [name for name in self.classes if name not in known]
        if unknown:
            raise UsageError(f'SubsetIoUMetric expected class names of the data set, got {unknown}; correct `classes`.')
        return np.isin(known, self.classes)

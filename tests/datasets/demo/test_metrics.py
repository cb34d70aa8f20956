"""``SubsetIoUMetric`` against numbers worked out by hand."""

import math

import pytest
import torch

from mmlk.datasets.demo.metrics import SubsetIoUMetric
from mmlk.errors import UsageError
from mmlk.registry import METRICS

CLASSES = ('a', 'b', 'c', 'd')
TRUTH = [[0, 0], [1, 1]]
PREDICTION = [[0, 1], [1, 2]]
# a: 1 of {2 true, 1 predicted} -> 1/2; b: 1 of {2, 2} -> 1/3; c: predicted once, never true; d: never either.


def evaluate(truth=TRUTH, prediction=PREDICTION, **kwargs):
    metric = SubsetIoUMetric(**kwargs)
    metric.dataset_meta = dict(classes=CLASSES)
    sample = dict(gt_sem_seg=dict(data=torch.tensor([truth])), pred_sem_seg=dict(data=torch.tensor([prediction])))
    metric.process({}, [sample])
    return metric.evaluate(1)


def test_all_classes_of_the_ground_truth():
    assert evaluate(prefix='present') == {'present/mIoU': pytest.approx(100 * (1 / 2 + 1 / 3) / 2, abs=0.01)}


def test_named_classes():
    assert evaluate(classes=['b'], prefix='far') == {'far/mIoU': pytest.approx(100 / 3, abs=0.01)}


def test_named_class_without_ground_truth_does_not_count():
    assert evaluate(classes=['a', 'c', 'd']) == {'mIoU': 50.0}


def test_ignored_pixels_do_not_count():
    assert evaluate(truth=[[0, 255], [1, 255]], prefix='present') == {'present/mIoU': 100.0}


def test_areas_are_added_over_images():
    metric = SubsetIoUMetric(classes=['a'])
    metric.dataset_meta = dict(classes=CLASSES)
    for prediction in ([[0, 0], [0, 0]], [[1, 1], [1, 1]]):
        metric.process(
            {},
            [
                dict(
                    gt_sem_seg=dict(data=torch.zeros(1, 2, 2, dtype=torch.long)),
                    pred_sem_seg=dict(data=torch.tensor([prediction])),
                )
            ],
        )
    assert metric.evaluate(2) == {'mIoU': 50.0}


def test_no_class_gives_nan():
    assert math.isnan(evaluate(classes=['d'])['mIoU'])


def test_unknown_name_is_one_sentence():
    with pytest.raises(UsageError, match=r"expected class names of the data set, got \['e'\]"):
        evaluate(classes=['a', 'e'])


def test_built_by_name():
    metric = METRICS.build(dict(type='mmlk.SubsetIoUMetric', classes=['a'], prefix='far'))
    assert isinstance(metric, SubsetIoUMetric) and metric.classes == ('a',)

"""Annotation files by themselves."""

import copy
import json

import numpy as np
import pytest
from mmengine.config import Config
from pycocotools import mask as coco_mask

from mmlk.datasets.check.annotations import (
    check_annotations,
    require_sound_annotations,
    run_length_problem,
)
from mmlk.datasets.check.report import Report
from mmlk.errors import UsageError

RUNS = [3, 5, 56]
CONTENT = dict(
    images=[dict(id=1, file_name='a.jpg', height=8, width=8)],
    annotations=[
        dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=16, iscrowd=0, segmentation=[[1, 1, 5, 1, 5, 5]]),
        dict(id=2, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=5, iscrowd=1,
             segmentation=dict(counts=RUNS, size=[8, 8])),
    ],
    categories=[dict(id=1, name='thing')],
)  # fmt: skip


def problems_of(path, content) -> list[str]:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    report = Report()
    check_annotations(report, path, 'archive.zip')
    return [str(problem) for problem in report.problems]


def test_right_file(tmp_path):
    assert problems_of(tmp_path / 'a.json', CONTENT) == []


@pytest.mark.parametrize(
    ('value', 'what'),
    [
        ([1, 2, 3], 'four finite numbers'),
        ([1, 2, 3, float('nan')], 'four finite numbers'),
        ([1, 2, 3, 1e300], 'four finite numbers'),
        ([1, 2, 3, True], 'four finite numbers'),
        (None, 'four finite numbers'),
        ([1, 2, -3, 4], 'negative width or height'),
    ],
)
def test_boxes(tmp_path, value, what):
    content = copy.deepcopy(CONTENT)
    content['annotations'][0]['bbox'] = value
    (problem,) = problems_of(tmp_path / 'a.json', content)
    assert what in problem and problem.endswith('id 1; correct or remove them')


@pytest.mark.parametrize(
    ('key', 'value', 'what'),
    [
        ('segmentation', [], 'no list of polygons'),
        ('segmentation', [[1, 2, 3, 4]], 'no list of polygons'),
        ('segmentation', [[1, 2, 3, 4, 5, 6, 7]], 'no list of polygons'),
        ('segmentation', [['a'] * 6], 'more than numbers'),
        ('segmentation', [[1, 2, 3, 4, 5, float('inf')]], 'more than numbers'),
        ('segmentation', [[1, 2, 3, 4, 5, 1e7]], 'more than numbers'),
        ('segmentation', 'text', 'neither a list of polygons nor run lengths'),
        ('segmentation', dict(counts=[64]), 'neither a list of polygons nor run lengths'),
        ('segmentation', dict(counts=[64], size=8), 'not height and width'),
        ('segmentation', dict(counts=[16], size=[4, 4]), 'not that of the picture'),
        ('area', -1, '"area"'),
        ('area', float('nan'), '"area"'),
        ('iscrowd', 'yes', '"iscrowd"'),
    ],
)
def test_values(tmp_path, key, value, what):
    content = copy.deepcopy(CONTENT)
    content['annotations'][1][key] = value
    (problem,) = problems_of(tmp_path / 'a.json', content)
    assert what in problem and 'id 2' in problem


@pytest.mark.parametrize(
    ('key', 'value', 'what'),
    [
        ('file_name', 5, 'no name'),
        ('file_name', '', 'no name'),
        ('height', 0, 'height and width'),
        ('width', 10**12, 'height and width'),
    ],
)
def test_pictures(tmp_path, key, value, what):
    content = copy.deepcopy(CONTENT)
    content['images'][0][key] = value
    # Without the annotation whose size is compared with that of the picture.
    content['annotations'].pop()
    (problem,) = problems_of(tmp_path / 'a.json', content)
    assert what in problem and '1 picture with' in problem


def test_file_nested_too_deeply(tmp_path):
    (problem,) = problems_of(tmp_path / 'a.json', '{"a": ' + '[' * 200000 + ']' * 200000 + '}')
    assert 'nested too deeply' in problem


def test_run_lengths_as_text_of_pycocotools():
    """What it writes is right, whatever the mask; a character more or less is not."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        mask = (rng.random((37, 29)) < rng.random()).astype(np.uint8)
        encoded = coco_mask.encode(np.asfortranarray(mask))
        text = encoded['counts'].decode()
        assert run_length_problem(dict(counts=text, size=[37, 29]), (37, 29)) == ''
        assert run_length_problem(dict(counts=text + 'a0', size=[37, 29]), (37, 29)) != ''
        assert run_length_problem(dict(counts=text[:-1], size=[37, 29]), (37, 29)) != ''


@pytest.mark.parametrize('counts', [[5, 5], [0, 65], [-5, 69], ['a'], [1.5, 62.5], None, 'ab!', 'o', '~'], ids=str)
def test_run_lengths_that_pycocotools_would_write_out_of_bounds(counts):
    assert run_length_problem(dict(counts=counts, size=[8, 8]), (8, 8)) != ''
    assert run_length_problem(dict(counts=RUNS, size=[8, 8]), (8, 8)) == ''


def test_data_set_of_a_config(tmp_path):
    content = copy.deepcopy(CONTENT)
    content['annotations'][0]['bbox'] = 'box'
    (tmp_path / 'a.json').write_text(json.dumps(content))
    dataset = dict(type='mmdet.CocoDataset', data_root=str(tmp_path), ann_file='a.json')
    for wrapped in (dataset, dict(type='RepeatDataset', dataset=dataset)):
        with pytest.raises(UsageError, match='train_dataloader cannot be used: .*a.json: 1 annotation with a "bbox"'):
            require_sound_annotations(Config(dict(train_dataloader=dict(dataset=wrapped))), 'train_dataloader')
    require_sound_annotations(Config(dict(train_dataloader=dict(dataset=dict(type='ImageNet')))), 'train_dataloader')
    require_sound_annotations(Config(dict(val_dataloader=None)), 'val_dataloader')

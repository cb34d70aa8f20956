"""Damaged COCO-shaped data."""

import json

import cv2
import numpy as np
import pytest

TRAIN = 'annotations/instances_train2017.json'


@pytest.fixture
def data(copy_of):
    return copy_of('coco')


@pytest.fixture
def edit(data):
    """Change the training annotations with a function of their content."""

    def edit(change) -> list[str]:
        path = data.root / TRAIN
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return data.problems()

    return edit


def test_no_annotations(data):
    (data.root / TRAIN).unlink()
    assert data.problems() == [f'{TRAIN}: found no such file; unpack annotations_trainval2017.zip there']


def test_annotations_that_break_off(data):
    path = data.root / TRAIN
    path.write_bytes(path.read_bytes()[:-500])
    (problem,) = data.problems()
    assert problem.startswith(f'{TRAIN}: breaks off (')
    assert problem.endswith('; unpack annotations_trainval2017.zip again, or fetch it again')


@pytest.mark.parametrize('content', [b'', b'<html>404</html>', b'\xff\xfe\x00', b'{"images": [nothing]}'], ids=repr)
def test_annotations_that_are_not_json(data, content):
    (data.root / TRAIN).write_bytes(content)
    (problem,) = data.problems()
    assert problem.startswith(f'{TRAIN}: is not JSON (')


@pytest.mark.parametrize(
    ('content', 'key'),
    [([], 'images'), ({'images': {}}, 'images'), ({'images': [], 'annotations': [1]}, 'annotations')],
)
def test_json_of_something_else(data, content, key):
    (data.root / TRAIN).write_text(json.dumps(content))
    assert data.problems() == [f'{TRAIN}: has no list "{key}"; give a COCO instances file']


def test_annotations_without_outlines(edit):
    def change(content):
        for annotation in content['annotations'][:2]:
            del annotation['segmentation']

    (problem,) = edit(change)
    assert '2 of ' in problem and 'entries of "annotations" without segmentation; write all of area, bbox' in problem


def test_ids_twice_and_ids_of_a_wrong_type(edit):
    (problem,) = edit(lambda content: content['images'][1].update(id=content['images'][0]['id']))[:1]
    assert problem == f'{TRAIN}: 1 id of "images" given twice: 1; number them anew'
    (problem,) = edit(lambda content: content['images'][1].update(id=[2]))
    assert problem == f'{TRAIN}: has ids in "images" that are no numbers; write whole numbers'


def test_unknown_categories_and_pictures(edit):
    def change(content):
        content['annotations'][0]['category_id'] = 99
        content['annotations'][1]['category_id'] = 98
        content['annotations'][2]['image_id'] = 12345

    assert edit(change) == [
        f'{TRAIN}: 1 annotation of a picture that is not in "images": 12345; list the pictures, or remove their '
        'annotations',
        f'{TRAIN}: 2 annotations of a category that is not in "categories": 98, 99; list the categories, or '
        'remove their annotations',
    ]


def test_class_too_few(edit):
    def change(content):
        dropped = content['categories'].pop()['id']
        content['annotations'] = [item for item in content['annotations'] if item['category_id'] != dropped]

    (problem,) = edit(change)
    assert problem.startswith(
        f'{TRAIN}: 5 categories instead of 6: building, tree, car and 2 more; set metainfo.classes'
    )
    assert 'num_classes of every head' in problem


def test_classes_in_another_order(edit):
    (problem,) = edit(lambda content: content['categories'].reverse())
    assert problem.startswith(f'{TRAIN}: category 1 is ship, not building; ')


def test_pictures_that_are_missing_and_that_are_not_listed(data):
    path = data.root / 'train2017/000000000002.jpg'
    path.rename(path.with_name('copy of 2.jpg'))
    assert data.problems() == [
        'train2017: 1 picture that instances_train2017.json lists is missing: 000000000002.jpg; unpack train2017.zip '
        'again',
        'train2017: 1 file that instances_train2017.json does not list: copy of 2.jpg; they are never read: annotate '
        'or remove them',
    ]


def test_pictures_in_the_wrong_folder(data):
    (data.root / 'train2017').rename(data.root / 'aside')
    (data.root / 'val2017').rename(data.root / 'train2017')
    (data.root / 'aside').rename(data.root / 'val2017')
    problems = data.problems()
    assert problems[0].startswith('train2017: 2 pictures instead of 4')
    assert any('4 pictures that instances_train2017.json lists are missing' in problem for problem in problems)


def test_broken_and_resized_pictures(data):
    folder = data.root / 'train2017'
    broken = folder / '000000000001.jpg'
    broken.write_bytes(broken.read_bytes()[:-200])
    cv2.imwrite(str(folder / '000000000003.jpg'), np.zeros((30, 50, 3), np.uint8))
    first, second = data.problems()
    assert first.startswith('train2017: 1 picture that cannot be read: 000000000001.jpg (')
    assert second.startswith(
        'train2017: 1 picture of another size than in instances_train2017.json: 000000000003.jpg (50 x 30, listed as '
        '96 x 96); '
    )

"""What is said about COCO folders that miss something, and about classes that do not agree."""

import json

import pytest
from mmengine.config import Config

from mmlk.datasets.layout import require_data
from mmlk.errors import UsageError

FILE = 'annotations/instances_train2017.json'


@pytest.fixture
def folder(tmp_path):
    """A COCO folder of one picture and two classes."""
    (tmp_path / 'train2017').mkdir()
    (tmp_path / 'train2017/000000000001.jpg').touch()
    (tmp_path / 'annotations').mkdir()
    write(tmp_path)
    return tmp_path


def write(folder, names=('cat', 'dog'), **changes):
    content = dict(
        images=[dict(id=1, file_name='000000000001.jpg', height=8, width=8)],
        annotations=[],
        categories=[dict(id=3 * index + 1, name=name) for index, name in enumerate(names)],
    )
    (folder / FILE).write_text(json.dumps(content | changes))


def config(folder, *classes, **heads):
    heads = heads or dict(bbox_head=dict(num_classes=len(classes)))
    dataset = dict(type='mmdet.CocoDataset', data_root=str(folder), ann_file=FILE, data_prefix=dict(img='train2017'))
    if classes:
        dataset['metainfo'] = dict(classes=classes)
    return Config(dict(default_scope='mmdet', model=heads, train_dataloader=dict(dataset=dataset)))


def message(cfg):
    with pytest.raises(UsageError) as caught:
        require_data(cfg, 'train_dataloader')
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_agreeing_folder(folder):
    require_data(config(folder, 'cat', 'dog'), 'train_dataloader')
    # A file may have more classes than are wanted.
    require_data(config(folder, 'dog'), 'train_dataloader')


def test_missing_file(folder):
    (folder / FILE).unlink()
    text = message(config(folder, 'cat', 'dog'))
    assert f'expects annotations in {folder / FILE}: found no such file' in text
    assert 'val2017/*.jpg' in text and '--demo' in text


def test_missing_pictures(folder):
    (folder / 'train2017').rename(folder / 'pictures')
    assert f'expects data in {folder}/train2017: found no such folder' in message(config(folder, 'cat', 'dog'))
    (folder / 'train2017').mkdir()
    assert 'the folder is empty' in message(config(folder, 'cat', 'dog'))
    (folder / 'train2017/other.jpg').touch()
    assert 'found no 000000000001.jpg there; correct train_dataloader.dataset.data_prefix.img' in message(
        config(folder, 'cat', 'dog')
    )


def test_file_that_breaks_off(folder):
    whole = (folder / FILE).read_text()
    (folder / FILE).write_text(whole[:-40])
    assert 'expected a complete JSON object' in message(config(folder, 'cat', 'dog'))
    (folder / FILE).write_text('')
    assert 'found an empty one' in message(config(folder, 'cat', 'dog'))


@pytest.mark.parametrize('categories', [[], ['cat'], {}, [dict(id=1)]], ids=str)
def test_no_categories(folder, categories):
    write(folder, categories=categories)
    assert 'expected a list "categories"' in message(config(folder, 'cat', 'dog'))


def test_classes_that_the_file_does_not_have(folder):
    text = message(config(folder))
    assert (
        f'train_dataloader expects 80 classes in {folder / FILE}, found 2 (cat, dog) without person, bicycle, car'
        in text
    )
    assert 'and 75 more' in text
    assert 'set train_dataloader.dataset.metainfo.classes to those of the file, in its order, and num_classes' in text


def test_order_is_that_of_the_file(folder):
    """mmdet numbers classes in the file's order, whatever the order of metainfo.classes."""
    assert f'in the order of {folder / FILE}, which is cat, dog, found dog, cat' in message(
        config(folder, 'dog', 'cat')
    )


@pytest.mark.parametrize(
    ('heads', 'place'),
    [
        (dict(bbox_head=dict(num_classes=80)), 'model.bbox_head'),
        (dict(roi_head=dict(bbox_head=[dict(num_classes=2), dict(num_classes=80)])), 'model.roi_head.bbox_head.1'),
        (dict(roi_head=dict(mask_head=dict(num_classes=80))), 'model.roi_head.mask_head'),
        (dict(type='DetTTAModel', module=dict(bbox_head=dict(num_classes=80))), 'model.bbox_head'),
    ],
)
def test_heads_of_another_number(folder, heads, place):
    text = message(config(folder, 'cat', 'dog', **heads))
    assert text.startswith(
        f'{place} tells 80 classes apart, train_dataloader has 2 (cat, dog); set num_classes of every'
    )


def test_rpn_and_backbone_do_not_count(folder):
    heads = dict(backbone=dict(num_classes=1000), rpn_head=dict(num_classes=1), bbox_head=dict(num_classes=2))
    require_data(config(folder, 'cat', 'dog', **heads), 'train_dataloader')

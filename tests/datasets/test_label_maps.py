"""What is said about label maps whose classes do not agree with dataset and heads."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmlk.datasets.layout import require_data
from mmlk.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    """An ADE20K folder of one picture."""
    for part in ('images', 'annotations'):
        (tmp_path / part / 'training').mkdir(parents=True)
    (tmp_path / 'images/training/a.jpg').touch()
    write(tmp_path, 0, 1, 150, 255)
    return tmp_path


def write(folder, *labels):
    cv2.imwrite(str(folder / 'annotations/training/a.png'), np.array([labels], np.uint8))


def config(folder, head=150, auxiliary=150, **dataset):
    dataset = dict(
        type='ADE20KDataset',
        data_root=str(folder),
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        **dataset,
    )
    model = dict(decode_head=dict(num_classes=head), auxiliary_head=[dict(num_classes=auxiliary)])
    return Config(dict(default_scope='mmseg', model=model, train_dataloader=dict(dataset=dataset)))


def message(cfg):
    with pytest.raises(UsageError) as caught:
        require_data(cfg, 'train_dataloader')
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_agreeing_folder(folder):
    require_data(config(folder), 'train_dataloader')
    write(folder, 0, 1, 2)
    require_data(config(folder, 2, 2, metainfo=dict(classes=('a', 'b'))), 'train_dataloader')
    write(folder, 0, 1)
    own = dict(metainfo=dict(classes=('a', 'b')), reduce_zero_label=False)
    require_data(config(folder, 2, 2, **own), 'train_dataloader')


def test_label_above_the_classes(folder):
    write(folder, 1, 151)
    text = message(config(folder))
    assert f'labels 1 to 150 and 255 for what is ignored in {folder}/annotations/training/a.png, found 151' in text
    write(folder, 0, 2)
    own = dict(metainfo=dict(classes=('a', 'b')), reduce_zero_label=False)
    assert 'labels 0 to 1 and 255 for what is ignored' in message(config(folder, 2, 2, **own))


@pytest.mark.parametrize(
    ('heads', 'place'),
    [((2, 150), 'model.decode_head'), ((150, 2), 'model.auxiliary_head.0')],
    ids=['main', 'auxiliary'],
)
def test_heads_of_another_number(folder, heads, place):
    text = message(config(folder, *heads))
    assert text.startswith(f'{place} tells 2 classes apart, train_dataloader has 150; set num_classes of every head')


def test_palette_and_16_bit(folder):
    """mmseg reads places in the palette; OpenCV would give colours."""
    path = folder / 'annotations/training/a.png'
    picture = Image.fromarray(np.array([[0, 1, 150, 255]], np.uint8), mode='P')
    picture.putpalette(list(range(256)) * 3)
    picture.save(path)
    require_data(config(folder), 'train_dataloader')
    cv2.imwrite(str(path), np.array([[0, 1, 150]], np.uint16))
    require_data(config(folder), 'train_dataloader')
    cv2.imwrite(str(path), np.array([[0, 1, 300]], np.uint16))
    assert 'found 300' in message(config(folder))


def test_label_map_that_is_cut(folder):
    path = folder / 'annotations/training/a.png'
    path.write_bytes(path.read_bytes()[:-30])
    assert f'found {path}, which is none (' in message(config(folder))


def test_prefixes_are_needed(folder):
    for prefix in ({}, None, dict(img_path='images/training')):
        cfg = config(folder)
        cfg.train_dataloader.dataset.data_prefix = prefix
        assert 'must have img_path and seg_map_path' in message(cfg)


def test_no_label_map(folder):
    (folder / 'annotations/training/a.png').write_bytes(b'')
    assert 'a.png, which is none' in message(config(folder))
    cv2.imwrite(str(folder / 'annotations/training/a.png'), np.zeros((2, 2, 3), np.uint8))
    assert 'a.png, which is none' in message(config(folder))

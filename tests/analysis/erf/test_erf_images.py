"""N images asked for are N images used; of which ones, and what the network gets."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmlk.analysis.erf import dataset_images, effective_receptive_fields, folder_images, scene_images
from mmlk.errors import UsageError

SIZE = (8, 12)


def write(folder, number, value=None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{number:03d}.png'
    Image.fromarray(np.full((5, 7, 3), number if value is None else value, np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Five classes of two pictures each."""
    for number in range(10):
        write(tmp_path / f'class{number // 2}', number)
    (tmp_path / 'notes.txt').write_text('no picture')
    return tmp_path


@pytest.mark.parametrize('asked', [1, 3, 9, 10])
@pytest.mark.parametrize('first', [False, True])
def test_as_many_as_asked_for(folder, asked, first):
    source = folder_images(folder, asked, SIZE, first)
    assert (source.count, source.asked, len(source.files), len(set(source.files))) == (asked,) * 4
    convolution = nn.Conv2d(3, 1, 1)
    nn.init.ones_(convolution.weight), nn.init.constant_(convolution.bias, 10)
    (erf,) = effective_receptive_fields(convolution, source.tensors())
    assert erf.num_images == asked


def test_fewer_than_asked_for(folder):
    source = folder_images(folder, 50, SIZE)
    assert (source.count, source.asked) == (10, 50)
    assert len(list(source.pictures())) == 10


def test_spread_over_the_folder_or_the_first(folder):
    assert [path.stem for path in folder_images(folder, 5, SIZE).files] == ['000', '002', '004', '006', '008']
    assert [path.stem for path in folder_images(folder, 5, SIZE, first=True).files] == [
        '000',
        '001',
        '002',
        '003',
        '004',
    ]


def test_what_the_network_gets(tmp_path):
    write(tmp_path, 0, [10, 20, 30])
    source = folder_images(tmp_path, 1, SIZE)
    (picture,) = source.pictures()
    assert picture.shape == (*SIZE, 3)
    (image,) = source.tensors(mean=(1, 2, 3), std=(1, 2, 4))
    assert image.shape == (1, 3, *SIZE)
    assert image.dtype == torch.float32
    assert image[0, :, 0, 0].tolist() == [9, 9, 27 / 4]
    (image,) = source.tensors(mean=(1, 2, 3), std=(1, 2, 4), bgr=True)
    assert image[0, :, 0, 0].tolist() == [29, 9, 7 / 4]


def test_grey_and_transparent_pictures(tmp_path):
    Image.fromarray(np.full((5, 5), 7, np.uint8)).save(tmp_path / 'a.png')
    Image.fromarray(np.full((5, 5, 4), 7, np.uint8)).save(tmp_path / 'b.png')
    assert all((picture == 7).all() for picture in folder_images(tmp_path, 2, SIZE).pictures())


class Records:
    """A data set by its records."""

    def __init__(self, *records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def get_data_info(self, index):
        return self.records[index]


def test_data_set(folder):
    paths = sorted(folder.rglob('*.png'))
    source = dataset_images(Records(*(dict(img_path=str(path)) for path in paths)), 'test set', 4, SIZE)
    assert [path.stem for path in source.files] == ['000', '002', '005', '007']
    assert (source.asked, source.description) == (4, 'test set')
    assert str(source) == '4 images of 8 x 12 (test set)'


@pytest.mark.parametrize('records', [[], [dict(img_path='/nowhere/a.png')], [dict(inputs=1)], [[dict()]]])
def test_data_set_without_files(records):
    assert dataset_images(Records(*records), 'test set', 4, SIZE) is None
    assert dataset_images([1, 2, 3], 'list', 4, SIZE) is None


def test_scenes():
    source = scene_images(2, (32, 48), scene_size=96)
    one, two = source.pictures()
    assert one.shape == (32, 48, 3)
    assert one.std() > 20
    assert not np.array_equal(one, two)
    assert np.array_equal(next(source.pictures()), one)


class TestBadInput:
    def test_no_folder(self, tmp_path):
        with pytest.raises(UsageError, match='expected a folder of pictures, found none at'):
            folder_images(tmp_path / 'missing', 1, SIZE)

    def test_no_picture(self, tmp_path):
        with pytest.raises(UsageError, match=r'expected pictures \(.bmp, .*\) in .*, found none'):
            folder_images(tmp_path, 1, SIZE)

    def test_broken_picture(self, tmp_path):
        (tmp_path / 'a.png').write_bytes(b'\x89PNG broken')
        with pytest.raises(UsageError, match=r'a.png cannot be read as a picture'):
            next(folder_images(tmp_path, 1, SIZE).pictures())

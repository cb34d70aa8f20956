"""Reading: samples, broken files of every kind, label maps."""

import cv2
import numpy as np
import pytest

from mmlk.datasets.check.pictures import read_each, take_sample
from mmlk.datasets.decoding import read_labels, read_size

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def test_sample_is_spread_and_repeatable():
    assert take_sample(range(10), 4) == [0, 2, 5, 7]
    assert take_sample('abc', 5) == take_sample('abc', None) == ['a', 'b', 'c']
    assert take_sample([], 5) == []


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_pictures_that_break_off_anywhere(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    cv2.imwrite(str(path), PICTURE)
    assert read_size(path) == (60, 40)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 3, len(whole) * 3 // 4, len(whole) - 60):
        path.write_bytes(whole[:length])
        with pytest.raises(Exception):  # noqa: B017  decoders raise what they like
            read_size(path)


def test_label_maps(tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.asarray([[3, 0, 3], [255, 3, 7]], np.uint8))
    size, labels = read_labels(path)
    assert size == (3, 2) and labels.tolist() == [0, 3, 7, 255]
    cv2.imwrite(str(path), np.full((2, 3), 1000, np.uint16))
    assert read_labels(path)[1].tolist() == [1000]
    cv2.imwrite(str(path), PICTURE)
    with pytest.raises(ValueError, match='3 colours instead of one label per pixel'):
        read_labels(path)


def test_more_files_than_threads_take_at_once():
    steps = []

    def track(items, what, total):
        steps.append((what, total))
        yield from items

    def read(item):
        if item % 200 == 7:
            raise OSError('two lines\nof which the first is shown')
        return 2 * item

    results = list(read_each(read, range(600), track, 'doubling'))
    assert [item for item, _, _ in results] == list(range(600))
    assert [(item, reason) for item, result, reason in results if result is None] == [
        (item, 'two lines') for item in (7, 207, 407)
    ]
    assert steps == [('doubling', 600)]

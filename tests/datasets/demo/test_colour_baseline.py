"""Colour alone: right on data it can solve, far below a network on the demo data."""

import cv2
import numpy as np
import pytest

from mmlk.datasets.demo.colour_baseline import colour_baseline
from mmlk.errors import UsageError


def write_split(root, split, image, label):
    for kind, suffix, pixels in (('images', 'jpg', image), ('annotations', 'png', label)):
        folder = root / kind / split
        folder.mkdir(parents=True)
        options = [cv2.IMWRITE_JPEG_QUALITY, 100] if suffix == 'jpg' else []
        cv2.imwrite(str(folder / f'one.{suffix}'), np.asarray(pixels, np.uint8), options)


def test_solves_what_colour_decides(tmp_path):
    image = np.zeros((32, 32, 3))
    label = np.ones((32, 32))
    image[:, 16:], label[:, 16:] = 240, 2
    for split in ('training', 'validation'):
        write_split(tmp_path, split, image, label)
    assert colour_baseline(tmp_path) == 1


def test_hand_computed_mean(tmp_path):
    # One colour: whichever class it gets, here class 1 for its 3 of 4 pixels, IoU is 3/4 for it and 0 for the other.
    label = np.ones((16, 16))
    label[:, 12:] = 2
    for split in ('training', 'validation'):
        write_split(tmp_path, split, np.full((16, 16, 3), 100), label)
    assert colour_baseline(tmp_path) == pytest.approx((0.75 + 0) / 2)


def test_ignored_pixels_do_not_count(tmp_path):
    label = np.ones((16, 16))
    label[:, 8:] = 0
    for split in ('training', 'validation'):
        write_split(tmp_path, split, np.full((16, 16, 3), 100), label)
    assert colour_baseline(tmp_path) == 1


def test_colour_is_not_enough_for_the_demo_data(demo_data):
    assert 0.1 < colour_baseline(demo_data) < 0.35


def test_missing_data_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match='needs pictures in .*training'):
        colour_baseline(tmp_path)

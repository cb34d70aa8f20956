"""Scenes: determinism, sizes, labels, and the far cue that nothing near the vessel may betray."""

from functools import cache

import cv2
import numpy as np
import pytest

from mmlk.datasets.demo.folder import JPEG_QUALITY
from mmlk.datasets.demo.scenes import FAR_CLASSES, FAR_GAP, SCENE_CLASSES, _draw_layout, render_scene
from mmlk.errors import UsageError

REACH = 32  # pixels around the vessel in which the two pictures must be the same
SIZES = (96, 128, 160)
TOWER = 85
#: For tests that look at the same scenes.
scene_of = cache(render_scene)


def compressed(image):
    """What is left of a picture after it went through a demo JPEG."""
    _, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def tightest(size, count=6):
    """Seeds among 300 whose vessel and tower stand closest together, where a leak would show first."""

    def gap(seed):
        layout = _draw_layout(np.random.default_rng([seed, 0]), size)
        return layout.tower[0] - layout.vessel[1]

    return sorted(range(300), key=gap)[:count]


def near(mask, reach, euclidean):
    """Pixels at most ``reach`` from a true pixel of the mask."""
    metric = cv2.DIST_L2 if euclidean else cv2.DIST_C
    return cv2.distanceTransform((~mask).astype(np.uint8), metric, cv2.DIST_MASK_PRECISE if euclidean else 3) <= reach


def test_same_seed_gives_the_same_scene():
    first, second = render_scene(11), render_scene(11)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.label, second.label)
    assert (first.object_box, first.cue_box, first.far_class) == (second.object_box, second.cue_box, second.far_class)


def test_other_seed_gives_another_scene():
    assert (render_scene(11).image != render_scene(12).image).mean() > 0.9


def test_global_random_numbers_are_left_alone():
    np.random.seed(5)
    expected = np.random.random(4)
    np.random.seed(5)
    render_scene(0)
    np.testing.assert_array_equal(np.random.random(4), expected)


@pytest.mark.parametrize('size', SIZES)
def test_arrays_and_boxes(size):
    for seed in tightest(size):
        scene = render_scene(seed, size)
        assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
        assert scene.label.shape == (size, size) and scene.label.dtype == np.uint8
        assert set(np.unique(scene.label)) <= {0, *SCENE_CLASSES}
        assert scene.far_class == FAR_CLASSES[scene.far_cue]

        rows, columns = np.nonzero(scene.label == scene.far_class)
        assert scene.object_box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        rows, columns = np.nonzero(scene.label == TOWER)
        x0, y0, x1, y1 = scene.cue_box
        assert 0 <= x0 <= columns.min() and columns.max() < x1 <= size
        assert 0 <= y0 <= rows.min() and rows.max() < y1 <= size
        gap = max(x0 - scene.object_box[2], scene.object_box[0] - x1)
        assert gap >= FAR_GAP


def test_objects_are_large_enough_to_be_learnt():
    for seed in range(20):
        scene = scene_of(seed)
        x0, y0, x1, y1 = scene.object_box
        assert 28 <= x1 - x0 <= 37 and 33 <= y1 - y0 <= 44
        assert (scene.label == scene.far_class).sum() >= 350
        assert (scene.label == TOWER).sum() >= 400


def test_class_ids_carry_their_ade20k_names():
    from mmseg.datasets import ADE20KDataset

    names = [ADE20KDataset.METAINFO['classes'][class_id - 1] for class_id in SCENE_CLASSES]
    assert names == ['building', 'sky', 'tree', 'road', 'grass', 'mountain', 'car', 'sea', 'boat', 'tower', 'ship']
    assert [ADE20KDataset.METAINFO['classes'][class_id - 1] for class_id in FAR_CLASSES] == ['boat', 'ship']


def test_only_ambiguous_borders_are_ignored():
    for seed in range(10):
        label = scene_of(seed).label
        ignored = label == 0
        assert 0.005 < ignored.mean() < 0.08
        # Every ignored pixel lies near two classes; at the picture's rim the second may be outside.
        for y, x in np.argwhere(ignored[2:-2, 2:-2]) + 2:
            window = label[y - 2 : y + 3, x - 2 : x + 3]
            assert np.unique(window[window > 0]).size >= 2


@pytest.mark.parametrize('size', SIZES)
def test_flipping_the_far_cue_changes_the_label_and_nothing_within_reach(size):
    for seed in tightest(size):
        boat, ship = render_scene(seed, size, far_cue=0), render_scene(seed, size, far_cue=1)
        vessel = boat.label == boat.far_class
        np.testing.assert_array_equal(vessel, ship.label == ship.far_class)
        assert (boat.far_class, ship.far_class) == (77, 104)
        assert (boat.object_box, boat.cue_box) == (ship.object_box, ship.cue_box)

        for euclidean in (False, True):
            around = near(vessel, REACH, euclidean)
            np.testing.assert_array_equal(boat.image[around], ship.image[around])
            np.testing.assert_array_equal(compressed(boat.image)[around], compressed(ship.image)[around])
            np.testing.assert_array_equal(boat.label[around & ~vessel], ship.label[around & ~vessel])

        x0, y0, x1, y1 = boat.cue_box
        outside = np.ones_like(vessel)
        outside[y0:y1, x0:x1] = False
        np.testing.assert_array_equal(boat.image[outside], ship.image[outside])
        np.testing.assert_array_equal(boat.label[outside & ~vessel], ship.label[outside & ~vessel])


def test_the_two_looks_of_the_tower_differ_plainly():
    for seed in range(12):
        boat, ship = render_scene(seed, far_cue=0), render_scene(seed, far_cue=1)
        x0, y0, x1, y1 = boat.cue_box
        inside = np.abs(boat.image[y0:y1, x0:x1].astype(int) - ship.image[y0:y1, x0:x1])
        assert inside.mean() > 20


def test_drawn_cue_is_one_of_the_two_and_both_occur():
    drawn = []
    for seed in range(24):
        scene = scene_of(seed, 96)
        np.testing.assert_array_equal(scene.image, render_scene(seed, 96, far_cue=scene.far_cue).image)
        drawn.append(scene.far_cue)
    assert 6 <= sum(drawn) <= 18


def test_both_sides_occur_with_both_cues():
    sides = {
        (scene.far_cue, scene.object_box[0] < scene.cue_box[0]) for scene in (scene_of(seed, 96) for seed in range(24))
    }
    assert sides == {(cue, left) for cue in (0, 1) for left in (False, True)}


def test_too_small_a_picture_is_refused():
    with pytest.raises(UsageError, match=r'at least 96 pixels a side .* got 95'):
        render_scene(0, size=95)


def test_unknown_cue_is_refused():
    with pytest.raises(UsageError, match=r'far_cue must be 0 .* got 2'):
        render_scene(0, far_cue=2)

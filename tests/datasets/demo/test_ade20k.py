"""The generated folder: layout, formats, class shares, disjoint splits, and no half-written data."""

import errno
import hashlib
import json
import os
import threading
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from mmlk.datasets.demo import ade20k, folder
from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.folder import scene_seed
from mmlk.datasets.demo.scenes import FAR_CLASSES, SCENE_CLASSES, render_scene
from mmlk.errors import UsageError

SMALL = dict(num_train=3, num_val=2, size=96, progress=False)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_layout_is_that_of_ade20k(tmp_path):
    data_root = generate_ade20k(tmp_path, **SMALL)
    assert data_root.name == 'ADEChallengeData2016'
    assert files_below(data_root) == [
        'annotations/training/ADE_train_00000001.png',
        'annotations/training/ADE_train_00000002.png',
        'annotations/training/ADE_train_00000003.png',
        'annotations/validation/ADE_val_00000001.png',
        'annotations/validation/ADE_val_00000002.png',
        'images/training/ADE_train_00000001.jpg',
        'images/training/ADE_train_00000002.jpg',
        'images/training/ADE_train_00000003.jpg',
        'images/validation/ADE_val_00000001.jpg',
        'images/validation/ADE_val_00000002.jpg',
    ]
    stamp = json.loads((data_root.parent / 'demo.json').read_text())
    assert stamp == dict(generator='ade20k', version=ade20k.GENERATOR_VERSION, num_train=3, num_val=2, size=96, seed=0)


def test_files_hold_the_scenes(tmp_path):
    data_root = generate_ade20k(tmp_path, seed=7, **SMALL)
    scene = render_scene(scene_seed(7, 'validation', 1), 96, far_cue=1)
    label = Image.open(data_root / 'annotations/validation/ADE_val_00000002.png')
    assert (label.format, label.mode) == ('PNG', 'L')
    np.testing.assert_array_equal(np.asarray(label), scene.label)
    image = Image.open(data_root / 'images/validation/ADE_val_00000002.jpg')
    assert (image.format, image.mode) == ('JPEG', 'RGB')
    # Compression costs a few grey levels; red and blue swapped would cost many more.
    written, true = np.asarray(image).astype(int), scene.image.astype(int)
    assert np.abs(written - true).mean() < 6 < 12 < np.abs(written - true[..., ::-1]).mean()


def test_every_class_has_a_good_share(demo_data):
    labels = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(demo_data.glob('annotations/*/*.png'))]
    assert len(labels) == 280
    counts = np.stack([np.bincount(label.ravel(), minlength=256) for label in labels])
    assert set(np.flatnonzero(counts.sum(axis=0))) == {0, *SCENE_CLASSES}
    for class_id in SCENE_CLASSES:
        present = (counts[:, class_id] > 0).mean()
        assert present == (0.5 if class_id in FAR_CLASSES else 1)
        assert counts[:, class_id].sum() / counts.sum() > 0.015


def test_splits_share_no_seed_and_no_picture(demo_data):
    train = {scene_seed(seed, 'training', index) for seed in range(3) for index in range(300)}
    val = {scene_seed(seed, 'validation', index) for seed in range(3) for index in range(300)}
    assert len(train) == len(val) == 900 and not train & val
    digests = {
        split: {hashlib.sha256(path.read_bytes()).digest() for path in demo_data.glob(f'images/{split}/*.jpg')}
        for split in ('training', 'validation')
    }
    assert len(digests['training']) == 240 and len(digests['validation']) == 40
    assert not digests['training'] & digests['validation']


def test_surroundings_of_the_vessel_tell_nothing(demo_data):
    """A nearest-centroid classifier on what lies within 16 px of the vessel stays near chance."""

    def features(split):
        rows, truth = [], []
        for path in sorted(demo_data.glob(f'annotations/{split}/*.png')):
            label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            image = cv2.imread(str(demo_data / 'images' / split / f'{path.stem}.jpg'))
            vessel = np.isin(label, FAR_CLASSES)
            around = cv2.dilate(vessel.astype(np.uint8), np.ones((33, 33), np.uint8)) > 0
            ys, xs = np.nonzero(vessel)
            rows.append(
                [*image[vessel].mean(0), *image[around].mean(0), *image[around].std(0), ys.mean(), xs.mean(), len(xs)]
            )
            truth.append(label[vessel].max() == FAR_CLASSES[1])
        return np.asarray(rows), np.asarray(truth)

    rows, truth = features('training')
    spread = rows.std(0)
    centroids = [rows[truth == kind].mean(0) / spread for kind in (False, True)]
    rows, truth = features('validation')
    distances = [np.square(rows / spread - centroid).sum(1) for centroid in centroids]
    accuracy = ((distances[1] < distances[0]) == truth).mean()
    # 40 coin throws: 0.5 with a standard deviation of 0.08.
    assert 0.25 < accuracy < 0.75


def test_second_call_renders_nothing(tmp_path, monkeypatch):
    first = generate_ade20k(tmp_path, **SMALL)
    monkeypatch.setattr(ade20k, 'render_scene', lambda *args, **kwargs: pytest.fail('rendered again'))
    assert generate_ade20k(tmp_path, **SMALL) == first


def test_other_parameters_get_their_own_folder(tmp_path):
    first = generate_ade20k(tmp_path, **SMALL)
    second = generate_ade20k(tmp_path, **{**SMALL, 'num_val': 1})
    third = generate_ade20k(tmp_path, seed=1, **SMALL)
    assert len({first, second, third}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.parent.name for path in (first, second, third)
    )


def fail_at(call, error):
    """A stand-in for ``render_scene`` that raises at the given call."""
    calls = []

    def render(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise error
        return render_scene(*args, **kwargs)

    return render


@pytest.mark.parametrize('error', [KeyboardInterrupt(), RuntimeError('power cut')], ids=repr)
def test_interruption_leaves_nothing(tmp_path, monkeypatch, error):
    monkeypatch.setattr(ade20k, 'render_scene', fail_at(3, error))
    with pytest.raises(type(error)):
        generate_ade20k(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(ade20k, 'render_scene', fail_at(2, OSError(errno.ENOSPC, 'No space left on device')))
    with pytest.raises(UsageError, match=r'cannot be written to .*: the disk is full; free the place'):
        generate_ade20k(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_read_only_folder_is_one_sentence(tmp_path, monkeypatch):
    # A patch, because tests may run as root, for whom nothing is read-only.
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(folder.tempfile, 'mkdtemp', refuse)
    with pytest.raises(UsageError, match=r'cannot be written to .*: Permission denied'):
        generate_ade20k(tmp_path, **SMALL)


def test_root_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / 'file').write_text('here first')
    with pytest.raises(UsageError, match='cannot be written to'):
        generate_ade20k(tmp_path / 'file', **SMALL)


def generate_twice(root):
    """Two threads that generate at once; what they return."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(generate_ade20k(root, **SMALL))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2 and results[0] == results[1]
    assert [path.name for path in root.iterdir()] == [results[0].parent.name]
    assert len(files_below(results[0])) == 10


def test_two_at_once_do_the_work_once(tmp_path, monkeypatch):
    builds, build = [], folder._build

    def build_slowly(*args):
        builds.append(args)
        time.sleep(0.2)
        build(*args)

    monkeypatch.setattr(folder, '_build', build_slowly)
    generate_twice(tmp_path)
    assert len(builds) == 1


def test_two_at_once_agree_without_locks(tmp_path, monkeypatch):
    """As on some file systems of a network."""
    barrier, rename = threading.Barrier(2), os.rename

    def rename_together(source, target):
        barrier.wait(timeout=60)
        rename(source, target)

    def refuse(*args):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(folder.fcntl, 'flock', refuse)
    monkeypatch.setattr(folder.os, 'rename', rename_together)
    generate_twice(tmp_path)


def test_failed_rename_is_reported(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EXDEV, 'Invalid cross-device link')

    monkeypatch.setattr(folder.os, 'rename', refuse)
    with pytest.raises(UsageError, match='Invalid cross-device link'):
        generate_ade20k(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_lost_file_is_noticed(tmp_path):
    data_root = generate_ade20k(tmp_path, **SMALL)
    (data_root / 'images/validation/ADE_val_00000001.jpg').unlink()
    with pytest.raises(UsageError, match=r'expected 2 files in images/validation, found 1; delete the folder'):
        generate_ade20k(tmp_path, **SMALL)


def test_lost_stamp_is_noticed(tmp_path):
    data_root = generate_ade20k(tmp_path, **SMALL)
    (data_root.parent / 'demo.json').unlink()
    with pytest.raises(UsageError, match=r'no matching demo\.json; delete the folder'):
        generate_ade20k(tmp_path, **SMALL)


@pytest.mark.parametrize('name, value', [('num_train', 0), ('num_val', -1), ('size', 64), ('seed', -1), ('seed', 1.5)])
def test_bad_parameters_are_named(tmp_path, name, value):
    with pytest.raises(UsageError, match=rf'needs {name} to be an integer of at least \d+, got {value}'):
        generate_ade20k(tmp_path, **{**SMALL, name: value})
    assert list(tmp_path.iterdir()) == []

"""The generated ImageNet folder: layout, lists for mmpretrain, disjoint splits, classes that colour cannot tell."""

import hashlib
import json
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mmlk.datasets.demo import imagenet
from mmlk.datasets.demo.categories import CATEGORIES
from mmlk.datasets.demo.folder import scene_seed
from mmlk.datasets.demo.imagenet import generate_imagenet
from mmlk.datasets.demo.picture_colour_baseline import picture_colour_baseline
from mmlk.datasets.demo.pictures import render_picture
from mmlk.errors import UsageError

SMALL = dict(num_train=16, num_val=8, size=48, progress=False)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    return generate_imagenet(tmp_path_factory.mktemp('small'), **SMALL)


def test_layout_is_that_of_imagenet(small):
    assert small.name == 'imagenet'
    assert sorted(path.name for path in small.iterdir()) == ['meta', 'train', 'val']
    for split, count in (('train', 2), ('val', 1)):
        folders = sorted((small / split).iterdir())
        assert [folder.name for folder in folders] == [category.wnid for category in CATEGORIES]
        assert [len(list(folder.glob('*.JPEG'))) for folder in folders] == [count] * 8
    lines = (small / 'meta/train.txt').read_text().splitlines()
    assert lines[:2] == ['n02708093/n02708093_1.JPEG 409', 'n02782093/n02782093_2.JPEG 417']
    assert (small / 'meta/val.txt').read_text().startswith('n02708093/ILSVRC2012_val_00000001.JPEG 409\n')
    assert (small / 'meta/train_21k.txt').read_text().startswith('n02708093/n02708093_1.JPEG 4270\n')
    assert (small / 'meta/classes.txt').read_text().splitlines()[3] == 'n02814533 436 4686 beach wagon'
    stamp = json.loads((small.parent / 'demo.json').read_text())
    assert stamp == dict(
        generator='imagenet', version=imagenet.GENERATOR_VERSION, num_train=16, num_val=8, size=48, seed=0
    )


@pytest.mark.parametrize(('release', 'field'), [('imagenet_synsets', 'index_1k'), ('imagenet22k_synsets', 'index_21k')])
def test_numbers_are_those_of_the_real_classes(release, field):
    """Against the lists of classes that timm has."""
    real = files('timm.data._info').joinpath(f'{release}.txt').read_text().split()
    assert [real[getattr(category, field)] for category in CATEGORIES] == [category.wnid for category in CATEGORIES]
    assert real == sorted(real)


def test_names_are_those_of_mmpretrain():
    from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

    for category in CATEGORIES:
        assert IMAGENET_CATEGORIES[category.index_1k].startswith(category.name)


@pytest.mark.parametrize('kind', ['ImageNet', 'ImageNet21k'])
def test_mmpretrain_reads_it(small, kind):
    import mmpretrain.datasets

    classes = dict(ImageNet=1000, ImageNet21k=21841)[kind]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = getattr(mmpretrain.datasets, kind)(
            data_root=str(small),
            ann_file=imagenet.list_file('train', classes),
            data_prefix='train',
            pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
        )
        sample = dataset[9]
    assert len(dataset) == 16
    assert sample['inputs'].shape == (3, 48, 48)
    category = CATEGORIES[1]
    assert sample['data_samples'].gt_label.item() == (category.index_1k if classes == 1000 else category.index_21k)


def test_files_hold_the_pictures(small):
    picture = render_picture(scene_seed(0, 'validation', 4), CATEGORIES[4], 48)
    image = Image.open(small / 'val/n02814860/ILSVRC2012_val_00000005.JPEG')
    assert (image.format, image.mode, image.size) == ('JPEG', 'RGB', (48, 48))
    # Compression costs a few grey levels; red and blue swapped would cost many more.
    written, true = np.asarray(image).astype(int), picture.astype(int)
    assert 2 * np.abs(written - true).mean() < np.abs(written - true[..., ::-1]).mean()


def test_surroundings_do_not_depend_on_the_class():
    """Where no object is, a seed's pictures of two classes are the same."""
    pictures = np.stack([render_picture(5, category, 64).astype(int) for category in CATEGORIES])
    same = (pictures == pictures[:1]).all(axis=(0, 3))
    assert 0.15 < same.mean() < 0.95
    assert all((pictures[0] != other).any() for other in pictures[1:])


def test_splits_share_no_picture(small):
    digests = {
        split: {hashlib.sha256(path.read_bytes()).digest() for path in small.glob(f'{split}/*/*.JPEG')}
        for split in ('train', 'val')
    }
    assert (len(digests['train']), len(digests['val'])) == (16, 8)
    assert not digests['train'] & digests['val']


def test_colour_does_not_tell_the_class(tmp_path):
    """Chance is 12.5 %."""
    data_root = generate_imagenet(tmp_path, num_train=240, num_val=80, size=48, progress=False)
    labels = [line.split()[1] for line in (data_root / 'meta/val.txt').read_text().splitlines()]
    assert set(Counter(labels).values()) == {10}
    for bits in (2, 3):
        assert picture_colour_baseline(data_root, bits) < 0.4


def test_colour_baseline_finds_colours(small, tmp_path):
    """It is able to: with one colour per class it makes no mistake."""
    for split, count in (('train', 16), ('val', 8)):
        lines = []
        for index in range(count):
            name = f'{index}.png'
            (tmp_path / split).mkdir(exist_ok=True)
            Image.new('RGB', (8, 8), (30 * (index % 8), 90, 200)).save(tmp_path / split / name)
            lines.append(f'{name} {index % 8}\n')
        (tmp_path / 'meta').mkdir(exist_ok=True)
        (tmp_path / f'meta/{split}.txt').write_text(''.join(lines))
    assert picture_colour_baseline(tmp_path, bits=4) == 1.0


def test_colour_baseline_without_data(tmp_path):
    with pytest.raises(UsageError, match=r'needs .*meta/train\.txt, found no such file'):
        picture_colour_baseline(tmp_path)


def test_second_call_renders_nothing(small, monkeypatch):
    monkeypatch.setattr(imagenet, 'render_picture', lambda *args: pytest.fail('rendered again'))
    assert generate_imagenet(small.parents[1], **SMALL) == small


def test_lost_file_is_noticed(tmp_path):
    data_root = generate_imagenet(tmp_path, **SMALL)
    (data_root / 'val/n02708093/ILSVRC2012_val_00000001.JPEG').unlink()
    with pytest.raises(UsageError, match=r'is damaged: expected 8 files in val/\*, found 7; delete the folder'):
        generate_imagenet(tmp_path, **SMALL)


@pytest.mark.parametrize(('name', 'value'), [('num_train', 0), ('num_val', -1), ('size', 47), ('seed', -1)])
def test_bad_parameters_are_named(tmp_path, name, value):
    with pytest.raises(UsageError, match=rf'needs {name} to be an integer of at least \d+, got {value}'):
        generate_imagenet(tmp_path, **{**SMALL, name: value})

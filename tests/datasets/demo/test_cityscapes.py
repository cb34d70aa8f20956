"""Cityscapes-shaped data: layout, names, label maps, and the dataset class of mmseg that reads them."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmlk.datasets.demo import cityscapes
from mmlk.datasets.demo.cityscapes import FAR_PAIR, TRAIN_IDS, generate_cityscapes
from mmlk.datasets.demo.demo_config import apply_demo
from mmlk.datasets.demo.folder import scene_seed
from mmlk.datasets.demo.scenes import FAR_CLASSES, SCENE_CLASSES, render_scene
from mmlk.datasets.demo.segmentation import DEMO_DATA
from mmlk.datasets.layout import require_data
from mmlk.errors import UsageError

SMALL = dict(num_train=3, num_val=2, size=96, progress=False)
CONFIG = 'configs/cityscapes/upernet_replknet_31b_769.py'


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    return generate_cityscapes(tmp_path_factory.mktemp('cityscapes'), **SMALL)


def test_layout_is_that_of_cityscapes(small):
    assert small.name == 'cityscapes'
    assert sorted(str(path.relative_to(small)) for path in small.rglob('*.png')) == [
        'gtFine/train/harbour/harbour_000000_000019_gtFine_labelTrainIds.png',
        'gtFine/train/harbour/harbour_000001_000019_gtFine_labelTrainIds.png',
        'gtFine/train/harbour/harbour_000002_000019_gtFine_labelTrainIds.png',
        'gtFine/val/bay/bay_000000_000019_gtFine_labelTrainIds.png',
        'gtFine/val/bay/bay_000001_000019_gtFine_labelTrainIds.png',
        'leftImg8bit/train/harbour/harbour_000000_000019_leftImg8bit.png',
        'leftImg8bit/train/harbour/harbour_000001_000019_leftImg8bit.png',
        'leftImg8bit/train/harbour/harbour_000002_000019_leftImg8bit.png',
        'leftImg8bit/val/bay/bay_000000_000019_leftImg8bit.png',
        'leftImg8bit/val/bay/bay_000001_000019_leftImg8bit.png',
    ]
    stamp = json.loads((small.parent / 'demo.json').read_text())
    version = cityscapes.GENERATOR_VERSION
    assert stamp == dict(generator='cityscapes', version=version, num_train=3, num_val=2, size=96, seed=0)


def test_files_hold_the_scenes_under_train_ids(small):
    scene = render_scene(scene_seed(0, 'validation', 1), 96, far_cue=1)
    image = cv2.imread(str(small / 'leftImg8bit/val/bay/bay_000001_000019_leftImg8bit.png'))
    np.testing.assert_array_equal(image[..., ::-1], scene.image)
    label = cv2.imread(str(small / 'gtFine/val/bay/bay_000001_000019_gtFine_labelTrainIds.png'), cv2.IMREAD_UNCHANGED)
    assert label.shape == (96, 96)
    for class_id in SCENE_CLASSES:
        assert set(label[scene.label == class_id]) <= {TRAIN_IDS.get(class_id, 255)}
    # Ignored pixels and the sea.
    assert set(label[~np.isin(scene.label, list(TRAIN_IDS))]) == {255}
    assert set(np.unique(label)) <= {*range(19), 255}


def test_classes_are_those_of_mmseg():
    from mmseg.datasets import CityscapesDataset

    names = CityscapesDataset.METAINFO['classes']
    assert [names[TRAIN_IDS[class_id]] for class_id in FAR_CLASSES] == list(FAR_PAIR)
    assert {names[index] for index in TRAIN_IDS.values()} == {
        'road', 'building', 'pole', 'vegetation', 'terrain', 'sky', 'car', 'truck', 'train',
    }  # fmt: skip


def test_demo_config(monkeypatch, repository, tmp_path):
    """The Cityscapes config, on folders that mmseg finds; its evaluator names the far pair of Cityscapes."""
    asked = {}

    def generate(root, **counts):
        asked.update(counts)
        return generate_cityscapes(root, **{**SMALL, 'size': counts['size']})

    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.setitem(DEMO_DATA, 'CityscapesDataset', replace(DEMO_DATA['CityscapesDataset'], generate=generate))
    cfg = Config.fromfile(repository / CONFIG)
    apply_demo(cfg, data_root=tmp_path, iterations=2)
    assert asked == dict(num_train=240, num_val=40, size=128)
    require_data(cfg, 'train_dataloader', 'val_dataloader', 'test_dataloader')
    assert (cfg.crop_size, cfg.model.data_preprocessor.size) == ((128, 128), (128, 128))
    assert [metric.get('classes') for metric in cfg.val_evaluator] == [None, ['truck', 'train'], None]
    init_default_scope('mmseg')
    for name, count in (('train', 3), ('val', 2)):
        dataset = DATASETS.build(cfg[f'{name}_dataloader'].dataset)
        assert len(dataset) == count
        sample = dataset[0]
        assert tuple(sample['inputs'].shape) == (3, 128, 128)
        assert set(sample['data_samples'].gt_sem_seg.data.unique().tolist()) <= {*range(19), 255}


class TestRealData:
    """What is said about folders that are not as they should be."""

    def config(self, repository, root):
        cfg = Config.fromfile(repository / CONFIG)
        cfg.train_dataloader.dataset.data_root = str(root)
        return cfg

    def test_label_maps_without_train_ids(self, repository, tmp_path):
        """As the archives unpack."""
        for folder in ('leftImg8bit/train/aachen', 'gtFine/train/aachen'):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / 'leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png').touch()
        (tmp_path / 'gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png').touch()
        with pytest.raises(UsageError) as error:
            require_data(self.config(repository, tmp_path), 'train_dataloader')
        text = str(error.value)
        assert 'no label map for 1 images, such as aachen/aachen_000000_000019_leftImg8bit.png' in text
        assert 'csCreateTrainIdLabelImgs' in text

    def test_nothing_there(self, repository, tmp_path):
        with pytest.raises(UsageError, match=r'found no such folder; CityscapesDataset wants in .*--demo'):
            require_data(self.config(repository, tmp_path), 'train_dataloader')

    def test_complete(self, repository, small):
        require_data(self.config(repository, small), 'train_dataloader')

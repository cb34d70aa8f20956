"""COCO-shaped data and the mmdet adapter: polygons, crowds, keys, what pycocotools and mmdet read, what is changed."""

import json
from copy import deepcopy

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from pycocotools import mask as rle
from pycocotools.coco import COCO

from mmlk.datasets.demo import coco, detection
from mmlk.datasets.demo.coco import CATEGORIES, CLASSES, annotate, generate_coco
from mmlk.datasets.demo.demo_config import apply_demo
from mmlk.datasets.demo.folder import scene_seed
from mmlk.datasets.demo.objects import BOAT, BUILDING, CAR, SHIP, TOWER, TREE
from mmlk.datasets.demo.painting import SUPERSAMPLING
from mmlk.datasets.demo.scenes import THING_CLASSES, render_scene
from mmlk.errors import UsageError

SMALL = dict(num_train=9, num_val=2, size=96, progress=False)
CASCADE = 'configs/coco/cascade_mask_rcnn_pelk_t.py'
FCOS = 'configs/coco/fcos_replknet_31b.py'


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    return generate_coco(tmp_path_factory.mktemp('coco'), **SMALL)


@pytest.fixture
def demo_cfg(monkeypatch, repository, tmp_path, small):
    """Apply the demo to a config of the repository, with a few small pictures."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.setattr(detection, 'generate_coco', lambda root, **counts: small)
    monkeypatch.delenv('MMLK_DEMO_ITERS', raising=False)

    def build(path=CASCADE, **options):
        cfg = Config.fromfile(path)
        cfg.merge_from_dict(options)
        apply_demo(cfg, data_root=tmp_path)
        return cfg

    return build


def read(folder, split):
    return json.loads((folder / f'annotations/instances_{split}2017.json').read_text())


class TestFiles:
    def test_layout_is_that_of_coco(self, small):
        assert small.name == 'coco'
        files = sorted(str(path.relative_to(small)) for path in small.rglob('*') if path.is_file())
        assert files == [
            'annotations/instances_train2017.json',
            'annotations/instances_val2017.json',
            *(f'train2017/{number:012d}.jpg' for number in range(1, 10)),
            'val2017/000000000010.jpg',
            'val2017/000000000011.jpg',
        ]

    def test_keys_are_those_of_coco(self, small):
        content = read(small, 'train')
        assert set(content) == {'info', 'licenses', 'images', 'annotations', 'categories'}
        for image in content['images']:
            assert {'id', 'file_name', 'height', 'width', 'license', 'date_captured'} == set(image)
            assert cv2.imread(str(small / 'train2017' / image['file_name'])).shape == (96, 96, 3)
        for annotation in content['annotations']:
            assert set(annotation) == {
                'id', 'image_id', 'category_id', 'segmentation', 'area', 'bbox', 'iscrowd',
            }  # fmt: skip
        assert [(entry['id'], entry['name']) for entry in content['categories']] == list(CATEGORIES.items())
        assert set(CATEGORIES) == set(THING_CLASSES)

    def test_ids_are_unique_and_splits_share_none(self, small):
        files = [read(small, split) for split in ('train', 'val')]
        for key in ('images', 'annotations'):
            ids = [entry['id'] for content in files for entry in content[key]]
            assert len(ids) == len(set(ids)) and min(ids) > 0

    def test_deterministic(self, small, tmp_path):
        again = generate_coco(tmp_path, **SMALL)
        for path in small.rglob('*'):
            if path.is_file():
                assert path.read_bytes() == (again / path.relative_to(small)).read_bytes(), path

    def test_second_call_renders_nothing(self, small, monkeypatch):
        monkeypatch.setattr(coco, 'render_scene', lambda *args, **kwargs: pytest.fail('rendered again'))
        assert generate_coco(small.parents[1], **SMALL) == small

    def test_lost_file_is_noticed(self, tmp_path):
        folder = generate_coco(tmp_path, **{**SMALL, 'num_train': 1, 'num_val': 1})
        (folder / 'val2017/000000000002.jpg').unlink()
        with pytest.raises(UsageError, match='expected 1 files in val2017, found 0; delete the folder'):
            generate_coco(tmp_path, **{**SMALL, 'num_train': 1, 'num_val': 1})


class TestThings:
    @pytest.mark.parametrize('seed', range(3))
    def test_every_scene_has_these(self, seed):
        for far_cue, vessel in ((0, BOAT), (1, SHIP)):
            classes = [thing.class_id for thing in render_scene(seed, far_cue=far_cue).things]
            assert sorted(classes) == sorted([BUILDING, TREE, TREE, CAR, CAR, TOWER, vessel])

    @pytest.mark.parametrize('seed', range(3))
    def test_masks_are_those_of_the_label_map(self, seed):
        """Mirrored or not, together the things of a class cover its pixels, and no sample belongs to two."""
        scene = render_scene(seed)
        owners = np.sum([thing.mask for thing in scene.things], axis=0)
        assert owners.max() == 1
        side = scene.label.shape[0]
        for class_id in {thing.class_id for thing in scene.things}:
            mask = np.logical_or.reduce([thing.mask for thing in scene.things if thing.class_id == class_id])
            covered = mask.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).sum(axis=(1, 3))
            # 7 of 9 samples give a pixel its label.
            np.testing.assert_array_equal(covered >= 7, scene.label == class_id)


class TestAnnotations:
    @pytest.mark.parametrize('seed', range(4))
    def test_polygons_match_painted_masks(self, seed):
        size = 128
        scene = render_scene(seed, size)
        annotations = annotate(scene, image_id=1)
        assert [annotation['category_id'] for annotation in annotations] == [t.class_id for t in scene.things]
        for annotation, thing in zip(annotations, scene.things, strict=True):
            # Drawn at the resolution of the samples, where half a sample is lost on every side.
            enlarged = [[SUPERSAMPLING * value for value in polygon] for polygon in annotation['segmentation']]
            side = size * SUPERSAMPLING
            drawn = rle.decode(rle.merge(rle.frPyObjects(enlarged, side, side))).astype(bool)
            overlap = (drawn & thing.mask).sum() / (drawn | thing.mask).sum()
            assert overlap > 0.9, (CATEGORIES[thing.class_id], overlap)
            rows, columns = np.nonzero(thing.mask)
            left, top, width, height = annotation['bbox']
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            found = np.array([left, top, left + width, top + height]) * SUPERSAMPLING
            # Crumbs too small for a polygon may be left out.
            assert np.abs(found - box).max() < 6 * SUPERSAMPLING
            assert annotation['area'] == pytest.approx(thing.mask.sum() / SUPERSAMPLING**2, rel=0.1)

    def test_crowd_is_run_lengths_of_all_trees(self):
        scene = render_scene(5, 128)
        *things, crowd = annotate(scene, image_id=3, crowd=True)
        assert TREE not in {thing['category_id'] for thing in things} and not any(t['iscrowd'] for t in things)
        assert (crowd['category_id'], crowd['iscrowd'], crowd['segmentation']['size']) == (TREE, 1, [128, 128])
        decoded = rle.decode(rle.frPyObjects(crowd['segmentation'], 128, 128)).astype(bool)
        painted = scene.label == TREE
        assert (decoded & painted).sum() == painted.sum()
        assert (decoded & painted).sum() / (decoded | painted).sum() > 0.8
        assert crowd['area'] == decoded.sum()
        x, y, width, height = crowd['bbox']
        assert decoded[y : y + height, x : x + width].sum() == decoded.sum()
        assert crowd['bbox'] == rle.toBbox(rle.frPyObjects(crowd['segmentation'], 128, 128)).tolist()

    @pytest.mark.parametrize('corner', [(0, 0), (3, 2)])
    def test_run_lengths_by_hand(self, corner):
        mask = np.zeros((4, 3), bool)
        mask[corner] = True
        counts = {(0, 0): [0, 1, 11], (3, 2): [11, 1]}[corner]
        assert coco._annotate_crowd(TREE, mask)['segmentation'] == dict(counts=counts, size=[4, 3])

    def test_some_pictures_have_a_crowd(self, small):
        crowds = [entry['image_id'] for entry in read(small, 'train')['annotations'] if entry['iscrowd']]
        assert crowds == [7, 8]


class TestReading:
    def test_pycocotools_scores_the_truth_with_one(self, small):
        from pycocotools.cocoeval import COCOeval

        truth = COCO(str(small / 'annotations/instances_train2017.json'))
        found = [
            {**entry, 'segmentation': truth.annToRLE(entry), 'score': 1.0}
            for entry in truth.anns.values()
            if not entry['iscrowd']
        ]
        for kind in ('bbox', 'segm'):
            evaluation = COCOeval(truth, truth.loadRes(deepcopy(found)), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            assert evaluation.stats[0] == pytest.approx(1)

    def test_mmdet_reads_polygons_and_ignores_crowds(self, demo_cfg):
        from mmdet.datasets import CocoDataset

        cfg = demo_cfg(**{'train_dataloader.dataset.pipeline.3': dict(type='Resize', scale=(96, 96))})
        with DefaultScope.overwrite_default_scope('mmdet'):
            settings = cfg.train_dataloader.dataset.to_dict()
            settings.pop('type')
            dataset = CocoDataset(**{**settings, 'indices': None})
            samples = [dataset[index] for index in range(len(dataset))]
        assert dataset.metainfo['classes'] == CLASSES
        assert len(samples) == 9
        for number, sample in enumerate(samples):
            truth = sample['data_samples'].gt_instances
            scene = render_scene(scene_seed(0, 'training', number), 96, far_cue=number % 2)
            with_crowd = number % 8 >= 6
            expected = [CLASSES.index(CATEGORIES[thing.class_id]) for thing in scene.things]
            if with_crowd:
                expected = [label for label in expected if CLASSES[label] != 'tree']
            assert truth.labels.tolist() == expected
            assert len(truth.masks) == len(expected)
            assert len(sample['data_samples'].ignored_instances) == int(with_crowd)


class TestAdapter:
    def test_only_classes_and_regions_of_the_model_change(self, demo_cfg, repository):
        before, after = Config.fromfile(CASCADE).model.to_dict(), demo_cfg().model.to_dict()
        stages = range(3)
        expected = {
            ('backbone', 'drop_path_rate'): 0.0,
            ('backbone', 'init_cfg'): None,
            **{('roi_head', 'bbox_head', stage, 'num_classes'): 6 for stage in stages},
            **{('roi_head', 'bbox_head', stage, 'norm_cfg', 'type'): 'BN' for stage in stages},
            ('roi_head', 'mask_head', 'num_classes'): 6,
            **{('train_cfg', 'rcnn', stage, 'sampler', 'num'): detection.TRAIN_REGIONS for stage in stages},
            ('train_cfg', 'rpn_proposal', 'max_per_img'): detection.PROPOSALS,
            ('test_cfg', 'rpn', 'max_per_img'): detection.PROPOSALS,
            ('test_cfg', 'rcnn', 'max_per_img'): detection.DETECTIONS,
        }
        for keys, value in expected.items():
            node = before
            for key in keys[:-1]:
                node = node[key]
            node[keys[-1]] = value
        assert after == before

    def test_one_stage_detector(self, demo_cfg):
        before, after = Config.fromfile(FCOS).model.to_dict(), demo_cfg(FCOS).model.to_dict()
        before['backbone'] |= dict(drop_path_rate=0.0, init_cfg=None, norm_cfg=dict(type='BN'))
        before['bbox_head']['num_classes'] = 6
        assert after == before

    def test_pipelines_show_whole_pictures(self, demo_cfg):
        cfg = demo_cfg()
        for pipeline in (cfg.train_pipeline, cfg.train_dataloader.dataset.pipeline):
            assert [step.type for step in pipeline] == [
                'LoadImageFromFile', 'LoadAnnotations', 'RandomFlip', 'Resize', 'PackDetInputs',
            ]  # fmt: skip
            assert pipeline[3] == dict(type='Resize', scale=(128, 128), keep_ratio=True)
        for pipeline in (cfg.test_pipeline, cfg.val_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline):
            assert pipeline[1] == dict(type='Resize', scale=(128, 128), keep_ratio=True)

    def test_tta_keeps_the_ratios_of_its_scales(self, demo_cfg):
        resizes, flips, *_ = demo_cfg(FCOS).tta_pipeline[1].transforms
        assert [step.scale for step in resizes] == [(102, 102), (128, 128), (154, 154)]
        assert [step.prob for step in flips] == [0.0, 1.0]

    def test_loaders_and_evaluators(self, demo_cfg, small):
        cfg = demo_cfg()
        for name, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
            loader = cfg[f'{name}_dataloader']
            assert (loader.num_workers, loader.persistent_workers) == (0, False)
            assert loader.dataset.data_root == str(small)
            assert loader.dataset.ann_file == f'annotations/instances_{split}2017.json'
            assert loader.dataset.data_prefix == dict(img=f'{split}2017')
            assert tuple(loader.dataset.metainfo.classes) == CLASSES
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            assert evaluator.ann_file == f'{small}/annotations/instances_val2017.json'

    def test_recipe(self, demo_cfg):
        cfg = demo_cfg()
        assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.dataset.indices) == (1, 240)
        assert (cfg.train_dataloader.batch_size, cfg.optim_wrapper.optimizer.lr) == (2, 7e-4)
        assert cfg.optim_wrapper.clip_grad == dict(max_norm=10.0, norm_type=2)
        # A recipe's own is kept.
        assert demo_cfg(FCOS).optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)

    def test_second_application_changes_nothing(self, demo_cfg, tmp_path):
        cfg = demo_cfg(FCOS)
        assert apply_demo(cfg, data_root=tmp_path) == []

    def test_other_data_set_is_one_sentence(self, demo_cfg):
        with pytest.raises(UsageError, match='on CocoDataset, but val_dataloader uses LVISV1Dataset; choose a config'):
            demo_cfg(**{'val_dataloader.dataset.type': 'LVISV1Dataset'})

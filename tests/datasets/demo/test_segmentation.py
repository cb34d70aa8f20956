"""The mmseg adapter: pipelines, preprocessor, windows, loaders, evaluators, and the far cue in every training crop."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmlk.datasets.demo.demo_config import apply_demo
from mmlk.datasets.demo.scenes import FAR_CLASSES
from mmlk.errors import UsageError

TOWER = 85


@pytest.fixture
def demo_cfg(demo_data, demo_root, monkeypatch, segmentation_config):
    """Build a config with options and apply the demo to it."""
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)

    def build(**options):
        cfg = segmentation_config(**options)
        apply_demo(cfg, data_root=demo_root)
        return cfg

    return build


def steps(pipeline):
    return {step['type']: {key: value for key, value in step.items() if key != 'type'} for step in pipeline}


def test_every_training_picture_keeps_vessel_and_cue(demo_cfg, demo_data):
    """The real pipeline on all pictures, flips and photometric distortion included."""
    from mmseg.datasets import ADE20KDataset

    with DefaultScope.overwrite_default_scope('mmseg'):
        settings = demo_cfg().train_dataloader.dataset.to_dict()
        assert settings.pop('type') == 'ADE20KDataset'
        dataset = ADE20KDataset(**settings)
        np.random.seed(0)
        samples = [dataset[index] for index in range(len(dataset))]
    assert len(samples) == 240
    flipped = 0
    for sample in samples:
        assert tuple(sample['inputs'].shape) == (3, 128, 128)
        metainfo = sample['data_samples'].metainfo
        label = sample['data_samples'].gt_sem_seg.data.numpy()[0]
        stem = metainfo['img_path'].rsplit('/', 1)[-1][:-4]
        written = cv2.imread(str(demo_data / 'annotations/training' / f'{stem}.png'), cv2.IMREAD_UNCHANGED)
        assert (label == TOWER - 1).sum() == (written == TOWER).sum() > 0
        for class_id in FAR_CLASSES:
            assert (label == class_id - 1).sum() == (written == class_id).sum()
        assert np.isin(label, np.subtract(FAR_CLASSES, 1)).any()
        assert (label == 255).sum() == (written == 0).sum()
        flipped += metainfo['flip']
    assert 60 < flipped < 180


def test_training_pipeline(demo_cfg):
    cfg = demo_cfg()
    for pipeline in (cfg.train_pipeline, cfg.train_dataloader.dataset.pipeline):
        assert steps(pipeline) == {
            'LoadImageFromFile': {},
            'LoadAnnotations': {'reduce_zero_label': True},
            'Resize': {'scale': (128, 128), 'keep_ratio': True},
            'RandomCrop': {'crop_size': (128, 128), 'cat_max_ratio': 0.75},
            'RandomFlip': {'prob': 0.5},
            'PhotoMetricDistortion': {},
            'PackSegInputs': {},
        }


@pytest.mark.parametrize(
    'step, becomes',
    [
        (dict(type='RandomChoiceResize', scales=[256, 512], resize_type='ResizeShortestEdge', max_size=2048), 'resize'),
        (dict(type='Resize', scale=(2048, 512), keep_ratio=True), 'resize'),
        (dict(type='mmseg.ResizeToMultiple', size_divisor=32), 'resize'),
        (dict(type='Pad', size_divisor=32), dict(type='Pad', size=(128, 128))),
        (dict(type='Pad', size=(512, 512), pad_val=0), dict(type='Pad', size=(128, 128), pad_val=0)),
        (dict(type='RandomRotate', prob=0.5, degree=20), None),
        (dict(type='RandomCutOut', prob=0.5, n_holes=1, cutout_shape=(8, 8)), None),
        (dict(type='RandomFlip', prob=0.5), dict(type='RandomFlip', prob=0.5)),
    ],
    ids=lambda step: step['type'] if isinstance(step, dict) else '',
)
def test_training_step(demo_cfg, step, becomes):
    expected = dict(type='Resize', scale=(128, 128), keep_ratio=True) if becomes == 'resize' else becomes
    pipeline = demo_cfg(**{'train_dataloader.dataset.pipeline': [step]}).train_dataloader.dataset.pipeline
    assert pipeline == ([] if expected is None else [expected])


def test_test_pipelines_and_tta(demo_cfg):
    cfg = demo_cfg()
    for pipeline in (cfg.test_pipeline, cfg.val_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline):
        assert steps(pipeline)['Resize'] == dict(scale=(128, 128), keep_ratio=True)
    resizes, flips, annotations, packing = cfg.tta_pipeline[1].transforms
    assert [step.scale for step in resizes] == [(64, 64), (128, 128), (192, 192)]
    assert [step.prob for step in flips] == [0.0, 1.0]


def test_tta_with_multiples_keeps_its_scales(demo_cfg):
    transforms = [
        [dict(type='Resize', scale=(2048 * n // 4, 512 * n // 4), keep_ratio=True) for n in (3, 4, 5)],
        [dict(type='ResizeToMultiple', size_divisor=32)],
    ]
    cfg = demo_cfg(tta_pipeline=[dict(type='TestTimeAug', transforms=transforms)])
    resizes, multiples = cfg.tta_pipeline[0].transforms
    assert [step.scale for step in resizes] == [(96, 96), (128, 128), (160, 160)]
    assert multiples == transforms[1]


def test_relative_tta_scales_are_kept(demo_cfg):
    transforms = [[dict(type='Resize', scale_factor=1.25, keep_ratio=True)]]
    cfg = demo_cfg(tta_pipeline=[dict(type='TestTimeAug', transforms=transforms)])
    assert cfg.tta_pipeline[0].transforms[0] == transforms[0]


def test_loaders(demo_cfg, demo_data):
    cfg = demo_cfg()
    for name, batch, split in (('train', 4, 'training'), ('val', 1, 'validation'), ('test', 1, 'validation')):
        loader = cfg[f'{name}_dataloader']
        assert (loader.batch_size, loader.num_workers, loader.persistent_workers) == (batch, 0, False)
        assert 'prefetch_factor' not in loader
        assert loader.dataset.data_root == str(demo_data)
        assert loader.dataset.data_prefix == dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
    assert (cfg.data_root, cfg.crop_size) == (str(demo_data), (128, 128))


def test_repeated_data_set_is_unpacked(demo_cfg, demo_data, segmentation_config):
    inner = segmentation_config().train_dataloader.dataset
    cfg = demo_cfg(**{'train_dataloader.dataset': dict(_delete_=True, type='RepeatDataset', times=50, dataset=inner)})
    assert cfg.train_dataloader.dataset.type == 'ADE20KDataset'
    assert cfg.train_dataloader.dataset.data_root == str(demo_data)


def test_mixed_data_sets_are_refused(demo_cfg, segmentation_config):
    inner = segmentation_config().train_dataloader.dataset
    with pytest.raises(UsageError, match='train_dataloader uses ConcatDataset'):
        demo_cfg(**{'train_dataloader.dataset': dict(_delete_=True, type='ConcatDataset', datasets=[inner])})


def test_preprocessor_that_pads_to_a_divisor(demo_cfg):
    preprocessor = dict(_delete_=True, type='SegDataPreProcessor', size_divisor=32, test_cfg=dict(size=(512, 512)))
    cfg = demo_cfg(**{'model.data_preprocessor': preprocessor})
    assert cfg.model.data_preprocessor == dict(
        type='SegDataPreProcessor', size=(128, 128), test_cfg=dict(size=(128, 128))
    )


@pytest.mark.parametrize('evaluator', [dict(type='IoUMetric'), [dict(type='IoUMetric')]], ids=['one', 'list'])
def test_evaluators(demo_cfg, evaluator):
    cfg = demo_cfg(val_evaluator=evaluator)
    assert [(metric.type, metric.get('prefix')) for metric in cfg.val_evaluator] == [
        ('IoUMetric', None),
        ('mmlk.SubsetIoUMetric', 'far'),
        ('mmlk.SubsetIoUMetric', 'present'),
    ]
    assert cfg.val_evaluator[1].classes == ['boat', 'ship']

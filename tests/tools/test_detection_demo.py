"""tools/train.py and tools/test.py with --demo on COCO-shaped data: tiny detectors train, validate, resume, test."""

import json

import pytest
from tiny_models import head_options
from tool_runner import run_tool, scalars

from mmlk.datasets.demo import detection
from mmlk.datasets.demo.coco import generate_coco

NECK = ['model.neck.in_channels=[8,16,32,64]', 'model.neck.out_channels=8']
LOG = ['default_hooks.logger.interval=1']
#: Command lines that shrink a detector to the smallest that runs every code path.
BACKBONES = {
    'pelk': ['width_factor=0.0834', 'kernel_size=(9,9,7,7)'],
    'replknet': ['channels=(8,16,32,64)', 'kernel_size=(9,9,7,7)'],
    'slak': ['width_factor=0.0834', 'kernel_size=(9,9,7,7,5)'],
    'shiftwise': ['width_factor=0.1', 'kernel_size=(9,9,7,7,3)'],
    'unireplknet': ['channels=(8,16,32,64)'],
}
CASCADE = head_options('mmdet')
FCOS = [
    *NECK,
    'model.bbox_head.in_channels=8',
    'model.bbox_head.feat_channels=8',
    'model.bbox_head.norm_cfg.type=BN',
    'model.test_cfg.score_thr=0.0',
    'model.test_cfg.nms_pre=20',
]
#: One per family.
CASES = {
    'cascade_mask_rcnn_pelk_t': (CASCADE, 'segm'),
    'fcos_replknet_31b': (FCOS, 'bbox'),
    'cascade_mask_rcnn_slak_t': (CASCADE, 'segm'),
    'cascade_mask_rcnn_shiftwise_t': (CASCADE, 'segm'),
    'cascade_mask_rcnn_unireplknet_t': (CASCADE, 'segm'),
}


def tiny(stem: str, head: list[str]) -> list[str]:
    """The options of a case."""
    family = next(name for name in ('unireplknet', *BACKBONES) if f'_{name}_' in stem)
    backbone = [f'model.backbone.{option}' for option in ('depths=(1,1,1,1)', *BACKBONES[family])]
    return ['--cfg-options', *backbone, *head, *LOG]


@pytest.fixture(scope='module')
def few_pictures(tmp_path_factory):
    return generate_coco(tmp_path_factory.mktemp('coco'), num_train=8, num_val=4, size=96, progress=False)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, repository, few_pictures):
    """In the checkout, a few pictures, 2 iterations."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(detection, 'generate_coco', lambda root, **counts: few_pictures)
    monkeypatch.setenv('MMLK_DEMO_ITERS', '2')
    monkeypatch.setenv('LOCAL_RANK', '0')


@pytest.mark.parametrize('stem', CASES)
def test_trains_validates_resumes_and_tests(stem, tmp_path):
    head, kind = CASES[stem]
    config, options = f'configs/coco/{stem}.py', tiny(stem, head)
    work_dir = tmp_path / 'run'
    trained = run_tool('train.py', config, '--demo', '--work-dir', work_dir, *options)
    assert trained.code == 0, trained.err
    assert 'num_classes: 6' in trained.out
    (run,) = scalars(work_dir)
    assert [record['step'] for record in run if 'loss' in record] == [1, 2]
    assert all(record['loss'] == record['loss'] for record in run if 'loss' in record)
    metrics = run[-1]
    # pycocotools gives -1 where it could not evaluate.
    assert 0 <= metrics[f'coco/{kind}_mAP_50'] <= 1

    resumed = run_tool(
        'train.py', config, '--demo', '--work-dir', work_dir, '--resume', *options,
        'train_cfg.max_epochs=2', 'train_cfg.val_interval=2',
    )  # fmt: skip
    assert resumed.code == 0, resumed.err
    assert [record['step'] for record in scalars(work_dir)[1] if 'loss' in record] == [3, 4]

    checkpoint, out = work_dir / 'epoch_1.pth', tmp_path / 'metrics.json'
    command = [config, checkpoint, '--demo', '--deploy', '--work-dir', tmp_path / 'test', '--out', out]
    tested = run_tool('test.py', *command, *options)
    assert tested.code == 0, tested.err
    # The fused network gives the metrics of the validation, but for a box at a threshold.
    found = json.loads(out.read_text())[f'coco/{kind}_mAP_50']
    assert found == pytest.approx(metrics[f'coco/{kind}_mAP_50'], abs=0.02)


def test_boxes_at_several_scales(tmp_path):
    config, options = 'configs/coco/fcos_replknet_31b.py', tiny('fcos_replknet_31b', FCOS)
    common = ['--demo', '--work-dir', tmp_path / 'run']
    trained = run_tool('train.py', config, *common, '--no-validate', *options)
    assert trained.code == 0, trained.err
    out = tmp_path / 'metrics.json'
    tested = run_tool('test.py', config, tmp_path / 'run/epoch_1.pth', *common, '--tta', '--out', out, *options)
    assert tested.code == 0, tested.err
    assert 0 <= json.loads(out.read_text())['coco/bbox_mAP'] <= 1


class TestBadInput:
    """One clear sentence and exit code 2."""

    def error(self, tmp_path, *options, config='cascade_mask_rcnn_pelk_t', tiny=CASCADE):
        command = [f'configs/coco/{config}.py', '--work-dir', tmp_path / 'run', '--cfg-options', *tiny, *options]
        return run_tool('train.py', *command).error

    def test_missing_data(self, tmp_path):
        root = tmp_path / 'nowhere'
        error = self.error(tmp_path, f'train_dataloader.dataset.data_root={root}')
        assert f'train_dataloader expects data in {root}/train2017: found no such folder' in error
        assert 'annotations/instances_{train,val}2017.json' in error and '--demo' in error
        assert not (tmp_path / 'run').exists()

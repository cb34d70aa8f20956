"""tools/benchmark_model.py on a tiny network of every host."""

import json

import pytest
import torch
from tiny_models import head_options
from tool_runner import run_tool

from mmlk.benchmarks.models import set_backend, variants
from mmlk.benchmarks.results import find_errors
from mmlk.errors import UsageError

BACKBONE = (
    'model.backbone.depths=(1,1,1,1)',
    'model.backbone.width_factor=0.0834',
    'model.backbone.kernel_size=(9,9,7,7)',
)
TINY = {
    'mmseg': (
        'configs/ade20k/upernet_pelk_t.py',
        'model.decode_head.in_channels=[8,16,32,64]',
        'model.decode_head.channels=8',
        'model.auxiliary_head.in_channels=32',
        'model.auxiliary_head.channels=8',
    ),
    'mmdet': (
        'configs/coco/cascade_mask_rcnn_pelk_t.py',
        *head_options('mmdet'),
        'model.train_cfg.rpn_proposal.max_per_img=10',
        'model.test_cfg.rpn.max_per_img=10',
        'model.roi_head.mask_head.num_convs=1',
        *(f'model.train_cfg.rcnn.{stage}.sampler.num=8' for stage in range(3)),
        *(f'model.roi_head.bbox_head.{stage}.num_shared_convs=1' for stage in range(3)),
    ),
    'mmpretrain': ('configs/imagenet/pelk_t.py', 'model.head.in_channels=64'),
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, repository):
    monkeypatch.chdir(repository)


def benchmark(host, *arguments):
    config, *options = TINY[host]
    fast = ('--device', 'cpu', '--image-size', '64', '--batch-size', '2', '--seconds', '0.01')
    return run_tool('benchmark_model.py', config, *fast, *arguments, '--cfg-options', *BACKBONE, *options)


@pytest.mark.parametrize('host', TINY)
def test_every_host(host, tmp_path):
    path = tmp_path / 'model.json'
    result = benchmark(host, '--json', path)
    assert result.code == 0, result.err
    results = json.loads(path.read_text())
    assert find_errors(results) == []
    assert results['settings']['host'] == host
    rows = results['rows']
    assert [(row['mode'], row['form']) for row in rows] == [
        ('train', 'train'),
        ('inference', 'train'),
        ('inference', 'fused'),
    ]
    for row in rows:
        assert row['images_per_s'] == pytest.approx(2e3 / row['step']['median_ms'])
        assert row['peak_mib'] is None or row['peak_mib'] >= 0
    assert 'images/s' in result.out
    # No log of the initialisation, whatever was logged before.
    assert 'init_weights' not in result.out + result.err


def test_compared_with_another_backend(tmp_path):
    path = tmp_path / 'model.json'
    arguments = ('--backbone-only', '--mode', 'train', '--amp', 'bf16', '--compare', 'reference', '--json', path)
    result = benchmark('mmpretrain', *arguments)
    assert result.code == 0, result.err
    ours, other = json.loads(path.read_text())['rows']
    assert (ours['backend'], other['backend']) == (None, 'reference')
    assert ours['ratio'] == pytest.approx(ours['images_per_s'] / other['images_per_s'])
    assert 'ratio' not in other


def test_backend_reaches_every_module():
    from mmlk.models import PeLK

    model = torch.nn.Sequential(PeLK(arch='t', depths=(1, 1, 1, 1), width_factor=0.0834, kernel_size=(9, 9, 7, 7)))
    # A module of another package that happens to have the attribute stays as it is.
    model.backend = 'theirs'
    assert set_backend(model, 'reference') >= 4
    mixers = [module for module in model[0].modules() if hasattr(module, 'backend')]
    assert {module.backend for module in mixers} == {'reference'}
    assert model.backend == 'theirs'


def test_variants():
    both = ['train', 'inference']
    assert [str(variant) for variant in variants(both, ['train', 'fused'], compiled=False)] == [
        'train, train form, eager',
        'inference, train form, eager',
        'inference, fused form, eager',
    ]
    assert [str(variant) for variant in variants(['inference'], ['fused'], compiled=True)] == [
        'inference, fused form, eager',
        'inference, fused form, compiled',
    ]
    with pytest.raises(UsageError, match='--mode train needs --form train'):
        variants(['train'], ['fused'], compiled=False)


class TestBadInput:
    def test_missing_config(self):
        error = run_tool('benchmark_model.py', 'configs/imagenet/pelk_tt.py').error
        assert error.startswith('expected a config file, found none at configs/imagenet/pelk_tt.py; did you mean')

    def test_config_without_a_model(self, tmp_path):
        path = tmp_path / 'empty.py'
        path.write_text("default_scope = 'mmyolo'\n")
        assert 'expected a config with a model' in run_tool('benchmark_model.py', path).error

    def test_unknown_backend(self):
        assert benchmark('mmpretrain', '--compare', 'fastest').error.startswith('--compare must be one of ')

    def test_fused_training(self):
        error = benchmark('mmpretrain', '--mode', 'train', '--form', 'fused').error
        assert error == '--mode train needs --form train: the fused form is not trained further'

    def test_three_edges(self):
        result = run_tool('benchmark_model.py', 'c.py', '--image-size', '1', '2', '3')
        assert result.code == 2
        assert 'must be one edge, or H and W, got 3 numbers' in result.err

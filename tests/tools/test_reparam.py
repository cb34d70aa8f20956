"""tools/reparam.py: what it writes gives the same predictions in tools/test.py, and what it says to bad input."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from tiny_models import tiny_case, trained_like
from tool_runner import TOOLS, run_tool

from mmlk.cli.config import load_config
from mmlk.datasets.demo import classification, detection
from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.coco import generate_coco
from mmlk.datasets.demo.segmentation import DEMO_DATA

#: Host -> family, arguments, the setting of the deploy config that builds the fused form, the form to test in place.
CASES = {
    'mmpretrain': ('slak', ['--form', 'dense'], {'backbone.deploy': 'dense'}),
    'mmseg': ('pelk', [], {'backbone.deploy': True}),
    'mmdet': (
        'unireplknet',
        ['--deep'],
        {'type': 'mmlk.FusedModel', 'network': 'CascadeRCNN', 'deep': True, 'form': 'auto'},
    ),
}
QUICK = ['--sizes', '64', '40x72', '--latency-size', '64']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A handful of pictures for every host."""
    root = tmp_path_factory.mktemp('few')
    few = dict(num_train=4, num_val=4, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMLK_DEMO_ROOT', str(root))
        patch.setenv('LOCAL_RANK', '0')
        coco = generate_coco(root / 'coco', size=96, **few)
        patch.setattr(detection, 'generate_coco', lambda root, **counts: coco)
        scenes = replace(
            DEMO_DATA['ADE20KDataset'], generate=lambda root, size, **counts: generate_ade20k(root, size=96, **few)
        )
        patch.setitem(DEMO_DATA, 'ADE20KDataset', scenes)
        for key, value in dict(size=64, batch_size=4, num_train=8, num_val=8).items():
            patch.setitem(classification.SIZES, key, value)
        yield root


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, repository, data):
    monkeypatch.chdir(repository)


def demo_config(host: str, family: str, *more: str) -> Config:
    """What ``tools/train.py CONFIG --demo --cfg-options ...`` would train."""
    config, options = tiny_case(host, family)
    pairs = (option.split('=', 1) for option in (*options, *more))
    values = {key: DictAction._parse_iterable(value) for key, value in pairs}
    return load_config(Namespace(config=config, demo=True, cfg_options=values, work_dir=None, launcher='none'))


def save(cfg: Config, path: Path, **extra) -> Path:
    """A checkpoint as MMEngine writes it."""
    meta = {'epoch': 3, 'dataset_meta': {'classes': ('cat', 'dog'), 'palette': [[1, 2, 3], [4, 5, 6]]}}
    torch.save({'meta': meta, 'state_dict': trained_like(cfg).state_dict(), **extra}, path)
    return path


@pytest.fixture(scope='module')
def checkpoints(data, repository, tmp_path_factory):
    """Host -> checkpoint of its case."""
    folder = tmp_path_factory.mktemp('checkpoints')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        return {host: save(demo_config(host, case[0]), folder / f'{host}.pth') for host, case in CASES.items()}


def reparam(host, checkpoint, out, *arguments, quick=True, options=()):
    config, tiny = tiny_case(host, CASES[host][0])
    command = [config, checkpoint, out, '--demo', *(QUICK if quick else QUICK[3:]), *arguments]
    return run_tool('reparam.py', *command, '--cfg-options', *tiny, *options)


def predictions(work_dir: Path, *command) -> tuple[list, dict]:
    """Predictions and metrics of ``tools/test.py``."""
    out = work_dir / 'predictions.pkl'
    result = run_tool('test.py', *command, '--work-dir', work_dir, '--out', out)
    assert result.code == 0, result.err
    (metrics,) = (path for path in work_dir.glob('*/*.json') if path.stem == path.parent.name)
    metrics = {key: value for key, value in json.loads(metrics.read_text()).items() if not key.endswith('time')}
    return pickle.loads(out.read_bytes()), metrics


def scores(sample: dict) -> np.ndarray:
    """The numbers of one prediction, in an order that does not depend on rounding."""
    if 'pred_score' in sample:
        return sample['pred_score'].numpy()
    if 'pred_instances' in sample:
        instances = sample['pred_instances']
        order = instances['scores'].argsort(descending=True)[:10]
        return instances['scores'][order].numpy()
    return np.bincount(sample['pred_sem_seg']['data'].flatten().numpy(), minlength=150) / 1e4


@pytest.mark.parametrize('host', CASES)
def test_files_give_the_same_predictions(host, checkpoints, tmp_path, monkeypatch):
    """From another folder, with nothing but the two files: strictly loaded, same predictions, same metrics."""
    family, arguments, expected = CASES[host]
    out = tmp_path / 'new folder' / 'fused.pth'
    for name in ('b.jpg', 'a.jpg', 'c.jpg'):
        shutil.copy('docs/images/scene.jpg', tmp_path / name)
    pictures = ['--verify-images', tmp_path, '--num-images', '2']
    result = reparam(host, checkpoints[host], out, *arguments, *pictures, quick=False)
    assert result.code == 0, result.err
    assert re.search(r'equal: .* is at most \S+e-1[3-9] in float64 \(allowed 1e-10\)', result.out), result.out
    assert 'on a.jpg, b.jpg\n' in result.out
    assert sorted(path.name for path in out.parent.iterdir()) == ['fused.pth', 'fused.py']
    for row in ('stage 3', 'parameters (M)', 'multiply-accumulates (G), backbone, 64 x 64', 'time (ms), network'):
        assert row in result.out
    deploy = Config.fromfile(out.with_suffix('.py'))
    for key, value in expected.items():
        node = deploy.model
        for name in key.split('.'):
            node = node[name]
        assert node == value, key

    config, options = tiny_case(host, family)
    plain, metrics = predictions(
        tmp_path / 'plain', config, checkpoints[host], '--demo', '--cfg-options', *options
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    fused, fused_metrics = predictions(tmp_path / 'fused', out.with_suffix('.py'), out)
    assert fused_metrics == pytest.approx(metrics, abs=0.05)
    assert len(fused) == len(plain) >= 4
    for a, b in zip(fused, plain, strict=True):
        np.testing.assert_allclose(scores(a), scores(b), rtol=1e-4, atol=1e-3)
    assert any(scores(sample).std() > 0 for sample in plain)


@pytest.mark.parametrize(
    ('host', 'form'), [('mmpretrain', 'strips'), ('mmseg', 'auto'), ('mmdet', 'dense')]
)  # fmt: skip
def test_fused_while_testing(host, form, checkpoints, tmp_path):
    """``tools/test.py --deploy --form``."""
    config, options = tiny_case(host, CASES[host][0])
    command = [config, checkpoints[host], '--demo']
    plain, metrics = predictions(tmp_path / 'plain', *command, '--cfg-options', *options)
    fused, fused_metrics = predictions(
        tmp_path / 'fused', *command, '--deploy', '--form', form, '--cfg-options', *options
    )
    assert fused_metrics == pytest.approx(metrics, abs=0.05)
    for a, b in zip(fused, plain, strict=True):
        np.testing.assert_allclose(scores(a), scores(b), rtol=1e-4, atol=1e-3)
    (log,) = (tmp_path / 'fused').glob('*/*.log')
    assert f'fused the model for testing, form {form}' in log.read_text()


class TestCheckpoint:
    """What is read and what is written."""

    def fused(self, tmp_path, **extra):
        cfg = demo_config('mmpretrain', 'slak')
        source = save(cfg, tmp_path / 'source.pth', **extra)
        result = reparam('mmpretrain', source, tmp_path / 'fused.pth')
        assert result.code == 0, result.err
        return torch.load(tmp_path / 'fused.pth', weights_only=True), result

    def test_of_a_training_run(self, tmp_path):
        """Averaged weights are under state_dict; what only training needs stays behind, what is known of it stays."""
        own = {'ema_state_dict': {'module.x': torch.ones(1)}, 'optimizer': {'state': {}}, 'param_schedulers': []}
        content, _ = self.fused(tmp_path, **own)
        assert set(content) == {'meta', 'state_dict'}
        assert content['meta']['epoch'] == 3
        assert content['meta']['dataset_meta']['classes'] == ('cat', 'dog')
        assert content['meta']['cfg'].count('deploy') == 1
        assert content['meta']['mmlk_fused']['form'] == 'auto'
        shapes = {key: tuple(value.shape) for key, value in content['state_dict'].items()}
        assert shapes['backbone.stages.0.blocks.0.mixer.reparam_convs.0.weight'] == (8, 1, 9, 5)

    def test_of_half_precision(self, tmp_path):
        weights = {
            key: value.half() if value.is_floating_point() else value
            for key, value in trained_like(demo_config('mmpretrain', 'slak')).state_dict().items()
        }
        content, result = self.fused(tmp_path, state_dict=weights)
        assert 'are float16; the fused ones are written as float32' in result.out
        assert {value.dtype for value in content['state_dict'].values()} == {torch.float32}

    def test_deploy_config_has_no_leftovers(self, tmp_path):
        self.fused(tmp_path)
        text = (tmp_path / 'fused.py').read_text()
        assert text.startswith('# The fused form of configs/imagenet/slak_t.py, written by tools/reparam.py')
        cfg = Config.fromfile(tmp_path / 'fused.py')
        assert not {'work_dir', 'launcher', 'load_from', 'resume'} & set(cfg)
        assert all(hook['type'] != 'EMAHook' for hook in cfg.get('custom_hooks', []))
        assert 'mmlk' in cfg.custom_imports['imports']


class TestShrink:
    """Sparse training leaves taps and channels at zero; cut, the outputs stay."""

    #: In one stage the kernels are so large that cutting is predicted to pay.
    KERNELS = ['model.backbone.kernel_size=(51,9,7,7,5)']

    @pytest.fixture
    def sparse(self, tmp_path):
        """Two channels of every mixer keep their kernels."""
        cfg = demo_config('mmpretrain', 'slak', *self.KERNELS)
        model = trained_like(cfg)
        for block in (stage.blocks[0].mixer for stage in model.backbone.stages):
            for name in ('vertical', 'horizontal', 'small'):
                getattr(block, f'{name}_weight').data[2:] = 0
        path = tmp_path / 'sparse.pth'
        torch.save({'state_dict': model.state_dict()}, path)
        return path

    def test_cut_and_loaded(self, sparse, tmp_path, monkeypatch):
        out = tmp_path / 'shrunk.pth'
        arguments = ['--shrink', '--form', 'dense', '--latency-size', '224']
        result = reparam('mmpretrain', sparse, out, *arguments, options=self.KERNELS)
        assert result.code == 0, result.err
        cut = re.search(r'shrink: (\d) of 4 large-kernel layers', result.out)
        assert int(cut[1]) >= 1, result.out
        assert 'shrunk (a) against fused (dense) (b)' in result.out
        model = Config.fromfile(out.with_suffix('.py')).model
        assert model.type == 'mmlk.FusedModel' and len(model.shrunk) == int(cut[1])
        weights = torch.load(out, weights_only=True)['state_dict']
        assert any('.mixer.parts.' in key for key in weights)

        config, options = tiny_case('mmpretrain', 'slak')
        command = [config, sparse, '--demo', '--cfg-options', *options, *self.KERNELS]
        plain, metrics = predictions(tmp_path / 'plain', *command)
        monkeypatch.chdir(tmp_path)
        fused, fused_metrics = predictions(tmp_path / 'fused', out.with_suffix('.py'), out)
        assert fused_metrics == pytest.approx(metrics, abs=0.05)
        for a, b in zip(fused, plain, strict=True):
            np.testing.assert_allclose(scores(a), scores(b), rtol=1e-4, atol=1e-3)

    def test_wrong_cut(self, sparse, tmp_path, monkeypatch):
        from mmlk.cli.reparam import model as reparam_model

        right = reparam_model.shrink_kernels

        def careless(model, image):
            report = right(model, image)
            model.backbone.stages[3].blocks[0].norm.weight.data *= 1 + 1e-3
            return report

        monkeypatch.setattr(reparam_model, 'shrink_kernels', careless)
        arguments = ['--shrink', '--form', 'dense', '--latency-size', '224']
        result = reparam('mmpretrain', sparse, tmp_path / 'shrunk.pth', *arguments, options=self.KERNELS)
        assert result.code == 1, result.err
        assert re.search(r'DIFFERENT: .* in float64 \(allowed 1e-06\)', result.out)
        assert sorted(path.name for path in tmp_path.iterdir()) == ['sparse.pth']

    def test_nothing_to_cut(self, checkpoints, tmp_path):
        # The kernels of PeLK are full; a full strip or cross may still be computed in a cheaper form.
        result = reparam('mmseg', checkpoints['mmseg'], tmp_path / 'fused.pth', '--shrink')
        assert result.code == 0, result.err
        assert 'shrink: 0 of 4 large-kernel layers' in result.out and 'shrunk (a)' not in result.out
        assert Config.fromfile(tmp_path / 'fused.py').model.backbone.deploy is True

    def test_model_without_mixers(self, tmp_path):
        resnet = write_resnet(tmp_path)
        error = run_tool('reparam.py', *resnet, tmp_path / 'out.pth', *QUICK, '--deep', '--shrink').error
        assert '--shrink cannot be used: model must contain mixers of mmlk, found none in ImageClassifier' in error


class TestDifferentForms:
    """Nothing is written where the forms differ."""

    def test_wrong_fusion(self, checkpoints, tmp_path, monkeypatch):
        from mmlk.models import reparam as algebra

        right = algebra.fold_norm

        def without_eps(branch):
            kernel, bias = right(branch)
            return kernel * (1 + branch.norm.eps / 2), bias

        monkeypatch.setattr(algebra, 'fold_norm', without_eps)
        result = reparam('mmpretrain', checkpoints['mmpretrain'], tmp_path / 'out' / 'fused.pth')
        assert result.code == 1
        assert re.search(
            r'DIFFERENT: .* is \S+ in \w+ ?\d? on (64 x 64|40 x 72) in float64 \(allowed 1e-10\)', result.out
        )
        assert 'nothing was written' in result.out and 'time (ms)' not in result.out
        assert not (tmp_path / 'out').exists()

    def test_damage_while_writing(self, checkpoints, tmp_path, monkeypatch):
        right = torch.save

        def damaged(content, file):
            weights = {key: value * 1.01 for key, value in content['state_dict'].items()}
            right(content | {'state_dict': weights}, file)

        monkeypatch.setattr(torch, 'save', damaged)
        error = reparam('mmpretrain', checkpoints['mmpretrain'], tmp_path / 'fused.pth').error
        assert 'the files that were written give other outputs than the train form' in error
        assert list(tmp_path.iterdir()) == []


def write_resnet(folder: Path) -> tuple[Path, Path]:
    """Config and checkpoint of a small classifier that has nothing of mmlk."""
    config = folder / 'resnet.py'
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier',\n"
        "    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),\n"
        "    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=5, in_channels=64))\n"
    )
    return config, save(Config.fromfile(config), folder / 'resnet.pth')


def edit(path: Path, target: Path, key: str, change) -> Path:
    """A copy of a checkpoint with one tensor changed."""
    content = torch.load(path, weights_only=True)
    change(content['state_dict'][key])
    torch.save(content, target)
    return target


class TestBadInput:
    """One clear sentence and exit code 2."""

    def error(self, checkpoint, out, *arguments, **case):
        return reparam('mmpretrain', checkpoint, out, *arguments, **case).error

    def test_output_names(self, checkpoints, tmp_path):
        checkpoint = checkpoints['mmpretrain']
        assert 'must end in .pth or .pt, got' in self.error(checkpoint, tmp_path / 'fused.py')
        own = tmp_path / 'own.pth'
        own.write_bytes(checkpoint.read_bytes())
        for force in ([], ['--force']):
            assert f'{own} would replace what is fused' in self.error(own, own, *force)
        (tmp_path / 'taken.py').write_text('# mine\n')
        assert f'{tmp_path / "taken.py"} exists: give another OUT, or --force' in self.error(
            checkpoint, tmp_path / 'taken.pth'
        )
        (tmp_path / 'folder.pth').mkdir()
        assert 'folder.pth is a directory' in self.error(checkpoint, tmp_path / 'folder.pth')
        assert 'could not be written (Not a directory)' in self.error(checkpoint, own / 'fused.pth')
        assert sorted(path.name for path in tmp_path.iterdir()) == ['folder.pth', 'own.pth', 'taken.py']

    def test_config_is_never_replaced(self, checkpoints, tmp_path):
        config = tmp_path / 'mine.py'
        config.write_text('model = dict()\n')
        result = run_tool('reparam.py', config, checkpoints['mmpretrain'], tmp_path / 'mine.pth', '--force')
        assert f'{config} would replace what is fused' in result.error
        assert config.read_text() == 'model = dict()\n'

    def test_replaced_on_demand(self, checkpoints, tmp_path):
        for name in ('fused.pth', 'fused.py'):
            (tmp_path / name).write_text('old')
        assert reparam('mmpretrain', checkpoints['mmpretrain'], tmp_path / 'fused.pth', '--force').code == 0
        assert Config.fromfile(tmp_path / 'fused.py').model.backbone.deploy is True

        # What was written is fused already, with the config of the train form and with its own.
        out = tmp_path / 'again.pth'
        assert 'fused.pth is fused already' in self.error(tmp_path / 'fused.pth', out)
        again = run_tool('reparam.py', tmp_path / 'fused.py', tmp_path / 'fused.pth', out, *QUICK)
        assert 'nothing to fuse' in again.error and 'builds the fused form already' in again.error
        assert not out.exists()

    def test_checkpoints(self, checkpoints, tmp_path):
        out = tmp_path / 'out.pth'
        assert f'found none at {tmp_path / "no.pth"}' in self.error(tmp_path / 'no.pth', out)
        assert 'does not fit ImageClassifier' in self.error(checkpoints['mmseg'], out)
        kernel, norm = (f'backbone.stages.1.blocks.0.mixer.vertical_{name}' for name in ('weight', 'norm.running_var'))
        source, broken = checkpoints['mmpretrain'], tmp_path / 'broken.pth'
        edit(source, broken, kernel, lambda value: value[0].fill_(float('nan')))
        assert f'broken.pth has 1 tensors with NaN or infinity ({kernel}): training' in self.error(broken, out)
        edit(source, broken, norm, lambda value: value[0].fill_(-1e-3))
        assert f'broken.pth has 1 tensors with negative variances ({norm}): training' in self.error(broken, out)
        edit(source, broken, kernel, lambda value: value.fill_(1e38))
        assert re.search(r'the train form gives NaN or infinity in stage \d on the input', self.error(broken, out))
        broken.write_bytes(b'PK no')
        assert str(broken) in self.error(broken, out)
        assert not out.exists()

    def test_form_and_inputs(self, checkpoints, tmp_path):
        out = tmp_path / 'out.pth'
        case = {'quick': False}
        source = checkpoints['mmpretrain']
        strips = reparam('mmseg', checkpoints['mmseg'], out, '--form', 'strips').error
        assert "cannot be fused with --form strips: PeripheralMixer has the fused forms ('dense',)" in strips
        assert 'expects a folder of pictures' in self.error(source, out, '--verify-images', tmp_path / 'none', **case)
        assert 'expects pictures (.bmp' in self.error(source, out, '--verify-images', tmp_path, **case)
        cv2.imwrite(str(tmp_path / 'dot.png'), np.zeros((9, 9, 3), np.uint8))
        for arguments, message in (
            (['--sizes', '3x'], '--sizes: must be an edge such as 224, or HxW such as 96x160, in pixels, got 3x'),
            (['--sizes', '64', '--verify-images', '.'], 'not allowed with argument --sizes'),
            (['--form', 'round'], "--form: invalid choice: 'round'"),
            (['--num-images', '0'], '--num-images: must be a whole number of 1 or more, got 0'),
        ):
            result = reparam('mmpretrain', source, out, *arguments, **case)
            assert result.code == 2 and message in result.err
        assert not out.exists()


class TestOtherModels:
    """A model without anything of mmlk."""

    def test_deep_fusion(self, tmp_path):
        resnet = write_resnet(tmp_path)
        out = tmp_path / 'fused.pth'
        command = ['reparam.py', *resnet, out, *QUICK]
        error = run_tool(*command).error
        assert error.startswith('nothing to fuse: ImageClassifier has no train-time branches of mmlk (backbone ResNet)')
        assert '--deep' in error and not out.exists()
        result = run_tool(*command, '--deep')
        assert result.code == 0, result.err
        assert not any('bn' in key for key in torch.load(out, weights_only=True)['state_dict'])
        again = run_tool('reparam.py', out.with_suffix('.py'), out, tmp_path / 'twice.pth', *QUICK, '--deep')
        assert 'neither train-time branches of mmlk nor a BatchNorm' in again.error


def test_command_line(checkpoints, tmp_path):
    """As a user runs it: help with examples, and a mistake. A run that succeeds is part of the quickstart's test."""
    shown = run_tool('reparam.py', '--help')
    assert shown.code == 0 and 'examples:\n  python tools/reparam.py ' in shown.out
    (tmp_path / 'fused.pth').touch()
    command = [sys.executable, TOOLS / 'reparam.py', tiny_case('mmpretrain', 'slak')[0], checkpoints['mmpretrain']]
    result = subprocess.run([*map(str, command), str(tmp_path / 'fused.pth')], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == f'error: {tmp_path / "fused.pth"} exists: give another OUT, or --force to replace it\n'

"""tools/export.py end to end on tiny networks, and what it says to bad input."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config, DictAction
from numerics import randomise
from tool_runner import TINY, TOOLS, run_tool

from mmlk.cli.reparam.model import build_model

CONFIG = 'configs/ade20k/upernet_pelk_t.py'
SIZE = ['--size', '96x128', '--seconds', '0.01']
OPTIONS = ['--cfg-options', *TINY]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, repository):
    monkeypatch.chdir(repository)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, repository):
    """What training of the tiny segmentor leaves behind."""
    cfg = Config.fromfile(repository / CONFIG)
    options = dict(option.split('=', 1) for option in TINY)
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in options.items()})
    path = tmp_path_factory.mktemp('trained') / 'iter_1.pth'
    meta = {'dataset_meta': {'classes': tuple(f'class {index}' for index in range(150))}}
    torch.manual_seed(0)
    torch.save({'state_dict': randomise(build_model(cfg)).state_dict(), 'meta': meta}, path)
    return path


def test_from_a_command_line_to_onnx_runtime(checkpoint, tmp_path):
    out = tmp_path / 'new' / 'model.onnx'
    options = ['--preprocess', '--output', 'probabilities', *SIZE, *OPTIONS]
    command = [TOOLS / 'export.py', CONFIG, checkpoint, out, *options]
    result = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in out.parent.iterdir()] == ['model.onnx']
    for text in (
        'ONNX, 0.',
        ' MiB, opset 17',
        '(batch, 3, height, width)',
        '(batch, 150, height, width)',
        '2 x 3 x 96 x 128',
        '1 x 3 x 128 x 192',
        f'written to {out}',
        'ms as a file',
    ):
        assert text in result.stdout, (text, result.stdout)
    assert 'Warning' not in result.stdout + result.stderr
    session = onnxruntime.InferenceSession(out)
    (scores,) = session.run(None, {'image': np.full((1, 3, 64, 96), 100, np.float32)})
    assert scores.shape == (1, 150, 64, 96) and np.allclose(scores.sum(1), 1, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata['input'] == 'pixel values from 0 to 255, RGB; the file normalises them'
    assert json.loads(metadata['classes'])[3] == 'class 3' and metadata['task'] == 'segmentation'
    assert json.loads(metadata['mean']) == pytest.approx([123.675, 116.28, 103.53])


def test_static_backbone_in_torchscript(checkpoint, tmp_path):
    out = tmp_path / 'model.pt'
    result = run_tool('export.py', CONFIG, checkpoint, out, '--backbone', '--static', *SIZE, *OPTIONS)
    assert result.code == 0, result.err
    assert '(1, 3, 96, 128)' in result.out and 'stage3' in result.out and 'batch' not in result.out
    assert 'normalise the image before' in result.out
    assert [tuple(y.shape) for y in torch.jit.load(out)(torch.zeros(1, 3, 96, 128))][3] == (1, 64, 3, 4)
    error = run_tool('export.py', CONFIG, checkpoint, out, *SIZE, *OPTIONS).error
    assert error == f'{out} exists: give another OUT, or --force to replace it'
    before = out.read_bytes()
    again = run_tool('export.py', CONFIG, checkpoint, out, '--force', *SIZE, *OPTIONS)
    assert again.code == 0 and out.read_bytes() != before and '(batch, 150, height, width)' in again.out


def test_other_outputs_end_with_status_1_and_no_file(checkpoint, tmp_path, monkeypatch):
    from mmlk.export.formats import TorchScriptFormat

    load = TorchScriptFormat.load
    monkeypatch.setattr(TorchScriptFormat, 'load', lambda path: lambda image: [1.01 * y for y in load(path)(image)])
    result = run_tool('export.py', CONFIG, checkpoint, tmp_path / 'model.pt', *SIZE, *OPTIONS)
    assert result.code == 1
    assert 'DIFFERENT: 1.0e-02 (allowed 1e-04); nothing was written' in result.out
    assert 'ms as a file' not in result.out and list(tmp_path.iterdir()) == []


def test_the_page_runs(checkpoint, tmp_path, repository, monkeypatch):
    """The Python of docs/export.md, with files made as it says."""
    blocks = re.findall(r'^```python\n(.*?)^```', (repository / 'docs/export.md').read_text(), re.M | re.S)
    assert len(blocks) == 2
    for name, options in (('onnx', ['--preprocess']), ('pt2', ['--backbone']), ('pt', ['--backbone'])):
        result = run_tool('export.py', CONFIG, checkpoint, tmp_path / f'model.{name}', *options, *SIZE, *OPTIONS)
        assert result.code == 0, result.err
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('picture.jpg', np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    for block in blocks:
        exec(block, {})


class TestBadInput:
    """One clear sentence, status 2, nothing written."""

    @pytest.mark.parametrize(
        'name, arguments, message',
        [
            (
                'm.pth',
                [],
                'OUT must end in .onnx (onnx), .pt2 (torch_export), .pt or .ts or .torchscript (torchscr',
            ),
            ('m.pt', ['--format', 'onnx'], 'OUT must end in .onnx (onnx), got '),
            ('m.pt', ['--opset', '17'], '--opset is for --format onnx, got torchscript; leave it out'),
            ('m.onnx', ['--static'], '--static needs --size with one size, which is the only one the file will take'),
            ('m.onnx', ['--static', '--size', '64', '96'], '--static needs --size with one size'),
            ('m.onnx', ['--form', 'strips'], "PeripheralMixer has the fused forms ('dense',), got form='strips'"),
        ],
    )
    def test_arguments(self, checkpoint, tmp_path, name, arguments, message):
        arguments = arguments if '--size' in arguments or '--static' in arguments else [*SIZE, *arguments]
        assert message in run_tool('export.py', CONFIG, checkpoint, tmp_path / name, *arguments, *OPTIONS).error
        assert list(tmp_path.iterdir()) == []

    def test_files(self, checkpoint, tmp_path):
        out = tmp_path / 'm.onnx'
        error = run_tool('export.py', 'configs/ade20k/upernet_pelk.py', checkpoint, out).error
        assert 'found none at configs/ade20k/upernet_pelk.py; did you mean' in error
        error = run_tool('export.py', CONFIG, tmp_path / 'no.pth', out).error
        assert error.startswith('expected a checkpoint file, found none at ')
        assert 'does not fit EncoderDecoder' in run_tool('export.py', CONFIG, checkpoint, out).error
        (tmp_path / 'dir.onnx').mkdir()
        error = run_tool('export.py', CONFIG, checkpoint, tmp_path / 'dir.onnx').error
        assert 'is a directory: give the name of a file' in error
        error = run_tool('export.py', CONFIG, checkpoint, checkpoint / 'm.onnx', *SIZE, *OPTIONS).error
        assert 'could not be written' in error
        assert [path.name for path in tmp_path.iterdir()] == ['dir.onnx']

    def test_help_has_examples(self):
        result = run_tool('export.py', '--help')
        assert result.code == 0 and 'tools/export.py CONFIG CKPT OUT.pt2' in result.out

"""Files of every format give the outputs of the model, for images of other sizes than they were made with too."""

import importlib.util
import io
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from mmlk.errors import UsageError
from mmlk.export import ExportedNetwork, export_network, find_differences
from mmlk.export import formats as formats_module
from mmlk.export.check import TOLERANCE

SUFFIX = {'onnx': '.onnx', 'torch_export': '.pt2', 'torchscript': '.pt'}
#: Every family in every format, and every host in every format.
TASK = {
    'PeLK': 'segmentation',
    'RepLKNet': 'detection',
    'SLaK': 'classification',
    'ShiftWiseNet': 'classification',
    'UniRepLKNet': 'classification',
}
SIZES = [(96, 128), (128, 96)]


def reload(path, format):
    """Run a file as a stranger would: without this package, and from its bytes alone."""
    content = path.read_bytes()
    if format == 'onnx':
        session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
        return lambda x: [torch.from_numpy(y) for y in session.run(None, {'image': x.numpy()})]
    module = torch.export.load(path).module() if format == 'torch_export' else torch.jit.load(io.BytesIO(content))
    return lambda x: list(module(x))


@pytest.mark.parametrize('format', SUFFIX)
@pytest.mark.parametrize('family', TASK)
def test_gives_the_outputs_of_the_model(build, tmp_path, family, format):
    network = ExportedNetwork(build(TASK[family], family), TASK[family]).eval()
    out = tmp_path / f'model{SUFFIX[format]}'
    result = export_network(network, out, format, SIZES, metadata={'task': network.kind})
    assert result.equal and [difference.shape for difference in result.differences] == [
        (2, 3, 96, 128),
        (1, 3, 128, 96),
    ]
    assert all(0 <= difference.relative <= TOLERANCE for difference in result.differences)
    assert list(tmp_path.iterdir()) == [out] and result.bytes == out.stat().st_size
    run = reload(out, format)
    # Sizes that are no multiple of a stride, another number of images.
    for shape in ((3, 3, 75, 101), (1, 3, 160, 96)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = network(x)
        actual = run(x)
        assert len(actual) == len(expected) == len(result.signature.outputs)
        for a, b in zip(actual, expected, strict=True):
            assert a.shape == b.shape
            assert (a - b).abs().max() <= TOLERANCE * b.abs().max()


def test_pictures_in_probabilities_out(build, tmp_path):
    """What the host predicts for a picture, the file gives from its pixels."""
    model = build('classification', 'RepLKNet')
    network = ExportedNetwork(model, 'classification', 'probabilities', preprocessing=True).eval()
    out = tmp_path / 'model.onnx'
    assert export_network(network, out, 'onnx', SIZES).equal
    picture = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    batch = model.data_preprocessor({'inputs': [picture.flip(0)], 'data_samples': None})
    with torch.no_grad():
        (sample,) = model.predict(batch['inputs'])
    (scores,) = reload(out, 'onnx')(picture[None].float())
    assert scores.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(scores[0], sample.pred_score, atol=1e-5)


def test_map_of_a_segmentor_is_what_it_predicts(build, tmp_path):
    model = build('segmentation', 'RepLKNet')
    network = ExportedNetwork(model, 'segmentation').eval()
    assert export_network(network, tmp_path / 'model.pt', 'torchscript', SIZES).equal
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.encode_decode(x, [dict(img_shape=(64, 64))])
    assert torch.allclose(reload(tmp_path / 'model.pt', 'torchscript')(x)[0], expected, atol=1e-4)


class TestOnnx:
    @pytest.fixture
    def network(self, build):
        return ExportedNetwork(build('detection', 'UniRepLKNet'), 'detection').eval()

    def test_names_axes_and_metadata(self, network, tmp_path):
        export_network(network, tmp_path / 'm.onnx', 'onnx', SIZES, metadata={'classes': '["cat", "dög"]'})
        session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
        (image,) = session.get_inputs()
        assert (image.name, image.shape, image.type) == ('image', ['batch', 3, 'height', 'width'], 'tensor(float)')
        assert [y.name for y in session.get_outputs()] == [f'level{index}' for index in range(4)]
        assert session.get_outputs()[2].shape == ['batch', 8, 'height_level2', 'width_level2']
        assert json.loads(session.get_modelmeta().custom_metadata_map['classes']) == ['cat', 'dög']
        assert {node.domain for node in onnx.load(tmp_path / 'm.onnx').graph.node} == {''}

    @pytest.mark.parametrize('static', ['all', 'size'])
    def test_static(self, network, tmp_path, static):
        result = export_network(network, tmp_path / 'm.onnx', 'onnx', SIZES, static=static, opset=18)
        session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
        assert session.get_inputs()[0].shape == [1 if static == 'all' else 'batch', 3, 96, 128]
        assert onnx.load(tmp_path / 'm.onnx').opset_import[0].version == 18
        # Nothing but the number of images can differ.
        assert len(result.differences) == (1 if static == 'all' else 2)
        with pytest.raises(Exception, match='Got invalid dimensions'):
            session.run(None, {'image': np.zeros((1, 3, 128, 96), np.float32)})

    def test_dynamo_exporter(self, network, tmp_path):
        result = export_network(network, tmp_path / 'm.onnx', 'onnx', SIZES, exporter='dynamo', metadata={'a': 'b'})
        assert result.equal and len(result.differences) == 2
        session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
        assert session.get_modelmeta().custom_metadata_map['a'] == 'b'
        assert session.get_outputs()[3].name == 'level3'

    def test_too_large(self, network, tmp_path, monkeypatch):
        monkeypatch.setattr(formats_module, 'ONNX_LIMIT', 1000)
        with pytest.raises(UsageError, match='a file of ONNX holds 2: use --format torch_export'):
            export_network(network, tmp_path / 'm.onnx', 'onnx', SIZES)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('format', ['torch_export', 'torchscript'])
def test_metadata_of_pytorch_files(tmp_path, format):
    network = ExportedNetwork(Maps(nn.Conv2d(3, 2, 3)), 'detection', backbone=True)
    path = tmp_path / f'm{SUFFIX[format]}'
    assert export_network(network, path, format, SIZES, metadata={'task': 'backbone'}).equal
    files = {'metadata.json': ''}
    if format == 'torchscript':
        torch.jit.load(path, _extra_files=files)
    else:
        torch.export.load(path, extra_files=files)
    assert json.loads(files['metadata.json']) == {'task': 'backbone'}


class Maps(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize('format', ['onnx', 'torchscript'])
def test_backbone_of_another_host(build, tmp_path, format):
    resnet = dict(type='mmseg.ResNet', depth=18, base_channels=8, stem_channels=8, num_stages=4)
    model = build('segmentation', '', resnet, [8, 16, 32, 64])
    network = ExportedNetwork(model, 'segmentation').eval()
    assert export_network(network, tmp_path / f'm{SUFFIX[format]}', format, SIZES).equal


class Surprise(nn.Module):
    """Python decides by the size of the image, which a traced file forgets."""

    def forward(self, x):
        return x * 2 if x.shape[2] > 96 else x


class FixedMap(nn.Module):
    """A size that Python computed is a constant of the file."""

    def forward(self, x):
        return x.reshape(int(x.shape[0]), 3, int(x.shape[2]) * int(x.shape[3]))


class ShapeOfItsOwn(nn.Module):
    def forward(self, x):
        return x.new_zeros(len(x), int(x.shape[2]))


class Unknown(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x @ x.transpose(2, 3)).real


class TestRefused:
    """No file, and nothing of one."""

    def export(self, tmp_path, backbone, format='onnx', **options):
        network = ExportedNetwork(Maps(backbone), 'detection', backbone=True).eval()
        try:
            return export_network(network, tmp_path / f'm{SUFFIX[format]}', format, SIZES, **options)
        finally:
            assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize('format', ['onnx', 'torchscript'])
    def test_other_outputs_at_another_size(self, tmp_path, format):
        result = self.export(tmp_path, Surprise(), format)
        assert not result.equal
        same, other = result.differences
        assert same.equal and other.relative == pytest.approx(0.5) and other.output == 'stage0'

    def test_a_size_is_fixed(self, tmp_path):
        with pytest.raises(UsageError, match=r'does not run on an image \(1, 3, 128, 96\).*--static exports one'):
            self.export(tmp_path, FixedMap())
        with pytest.raises(UsageError, match=r'stage0 of the file is \(2, 96\).*of the model \(1, 128\).*--static'):
            self.export(tmp_path, ShapeOfItsOwn(), 'torchscript')

    def test_operator_that_the_format_does_not_have(self, tmp_path):
        with pytest.raises(UsageError, match='^ONNX cannot express this network: .*--static.*--exporter dynamo'):
            self.export(tmp_path, Unknown())

    def test_a_branch_on_the_size(self, tmp_path):
        with pytest.raises(UsageError, match=r'does not run on an image \(1, 3, 128, 96\): Guard failed: .*--static'):
            self.export(tmp_path, Surprise(), 'torch_export')

    def test_the_model_itself_gives_nan(self, tmp_path):
        conv = nn.Conv2d(3, 2, 1)
        nn.init.constant_(conv.bias, float('nan'))
        with pytest.raises(UsageError, match='stage0 of the model itself has NaN or infinity'):
            self.export(tmp_path, conv)

    @pytest.mark.parametrize('exporter, package', [('torchscript', 'onnx'), ('dynamo', 'onnxscript')])
    def test_missing_package(self, tmp_path, monkeypatch, exporter, package):
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == package else find(name))
        with pytest.raises(UsageError, match=rf'onnx needs {package}, not installed here: pip install {package} '):
            self.export(tmp_path, nn.Conv2d(3, 2, 1), exporter=exporter)

    def test_unknown_exporter(self, tmp_path):
        with pytest.raises(UsageError, match='exporter must be one of torchscript, dynamo, got caffe'):
            self.export(tmp_path, nn.Conv2d(3, 2, 1), exporter='caffe')


class TestDifferences:
    def test_relative_to_the_largest_value(self):
        a, b = torch.tensor([[1.0, -4.0]]), torch.tensor([[1.5, -5.0]])
        difference = find_differences(['y', 'z'], (1, 3, 4, 4), [b, a], [b, b])
        assert (difference.output, difference.absolute, difference.relative) == ('z', 1.0, 0.2)
        assert not difference.equal

    def test_nan_is_different(self):
        b = torch.ones(1, 2)
        assert not find_differences(['y', 'z'], (1,), [b * float('nan'), b], [b, b]).equal

    def test_zeros(self):
        zeros = torch.zeros(1, 2)
        assert find_differences(['y'], (1,), [zeros], [zeros]).equal
        assert not find_differences(['y'], (1,), [zeros + 1], [zeros]).equal

    def test_number_of_outputs(self):
        with pytest.raises(UsageError, match='the file gives 0 outputs, the model 1'):
            find_differences(['y'], (1,), [], [torch.zeros(1)])

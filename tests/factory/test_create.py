"""mmlk.create_model: names, outputs, weights of every origin, and what it says to bad input."""

import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS as REGISTRY

import mmlk
from mmlk.checkpoints.convert import revert
from mmlk.factory.names import MODELS
from mmlk.models import BaseLargeKernelBackbone, PeLK, RepLKNet, ShiftWiseNet, SLaK, UniRepLKNet
from mmlk.models.mixers import BaseMixer

BODY = dict(depths=(1, 1, 1, 1), base_channels=(8, 16, 32, 64), width_factor=1.0)
#: Fields of an architecture that is tiny and has every code path.
TINY = {
    'pelk': (PeLK, dict(BODY, kernel_size=(9, 9, 7, 7), center_radius=2)),
    'replknet': (
        RepLKNet,
        dict(
            depths=(1, 1, 1, 1),
            channels=(8, 16, 32, 64),
            kernel_size=(9, 9, 7, 7),
            small_kernel=5,
            dw_ratio=1.0,
            ffn_ratio=4.0,
            norm_intermediate_features=False,
        ),
    ),
    'slak': (SLaK, dict(BODY, kernel_size=(9, 9, 7, 7, 3))),
    'shiftwise': (ShiftWiseNet, dict(BODY, version='v2', kernel_size=(9, 9, 7, 7, 3))),
    'unireplknet': (UniRepLKNet, dict(depths=(1, 1, 1, 1), channels=(8, 16, 32, 64), kernel_size=(3, 7, 7, 7))),
}
X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """One more architecture of every family: ``<family>_tiny``."""
    for family, (backbone, fields) in TINY.items():
        monkeypatch.setattr(backbone, 'arch_zoo', {'tiny': fields} | backbone.arch_zoo)
        monkeypatch.setitem(MODELS, f'{family}_tiny', (backbone.__name__, 'tiny'))


def with_statistics(model):
    """The model, with the norms of one that was trained, in evaluation mode."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        if hasattr(module, 'gamma'):
            torch.nn.init.ones_(module.gamma)
    return model.eval()


@pytest.fixture
def classifier_file(tmp_path):
    """Of a family: a trained classifier and the checkpoint MMEngine writes of it."""

    def make(family, num_classes=5):
        model = with_statistics(mmlk.create_model(f'{family}_tiny', num_classes=num_classes))
        path = tmp_path / f'{family}.pth'
        torch.save({'state_dict': model.state_dict(), 'meta': {'epoch': 3}}, path)
        return model, path

    return make


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_every_architecture_has_a_name():
    backbones = {cls.__name__: cls for cls in (PeLK, RepLKNet, SLaK, ShiftWiseNet, UniRepLKNet)}
    known = {(name, arch) for name, cls in backbones.items() for arch in cls.arch_zoo}
    assert set(MODELS.values()) == known
    assert len(MODELS) == len(known)
    for name in ('pelk_t', 'pelk_b_101', 'replknet_31b', 'slak_s', 'shiftwise_t', 'shiftwise_v1_t', 'unireplknet_xl'):
        assert name in MODELS
    assert MODELS['shiftwise_t'] == ('ShiftWiseNet', 'v2_t')


def test_listing():
    assert mmlk.list_models('*slak*') == ['slak_b', 'slak_l', 'slak_s', 'slak_t', 'slak_tiny']
    assert mmlk.list_models(['PeLK_?', 'replknet_xl']) == ['pelk_b', 'pelk_s', 'pelk_t', 'replknet_xl']
    assert mmlk.list_models('resnet*') == []
    assert len(mmlk.list_models()) == len(MODELS)


@pytest.mark.parametrize('name', [name for name in MODELS if not name.endswith('_tiny')])
def test_every_name_builds(name):
    with torch.device('meta'):
        model = mmlk.create_model(name, depths=(1, 1, 1, 1))
    assert model.head.fc.weight.shape == (1000, model.num_features)
    assert isinstance(model.backbone, BaseLargeKernelBackbone) and model.backbone.final_norm


@pytest.mark.parametrize('family', TINY)
def test_logits_are_those_of_mmpretrain(family):
    """Same keys and, with them, the same logits as an ImageClassifier of a config."""
    import mmpretrain.models  # noqa: F401

    ours = with_statistics(mmlk.create_model(f'{family}_tiny', num_classes=5))
    backbone = dict(type=f'mmlk.{TINY[family][0].__name__}', arch='tiny', final_norm=True)
    head = dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64)
    # By its whole name: what ran before may have set another scope.
    inputs = dict(type='mmpretrain.ClsDataPreprocessor')
    model = dict(type='mmpretrain.ImageClassifier', data_preprocessor=inputs, backbone=backbone, head=head)
    theirs = REGISTRY.build(model).eval()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        assert torch.equal(ours(X), theirs(X))


@pytest.mark.parametrize('family', TINY)
def test_maps_and_their_description(family):
    model = mmlk.create_model(f'{family}_tiny', features_only=True, out_indices=(0, -1), drop_path_rate=0.1).eval()
    maps = model(X)
    assert isinstance(maps, list)
    assert [y.shape[1] for y in maps] == model.feature_info.channels() == [8, 64]
    assert [64 // y.shape[-1] for y in maps] == model.feature_info.reduction() == [4, 32]
    for name, y in zip(model.feature_info.module_name(), maps, strict=True):
        seen = []
        model.get_submodule(name).register_forward_hook(lambda module, x, y, seen=seen: seen.append(y))
        model(X)
        assert seen[0].shape == y.shape


def test_maps_are_those_of_the_backbone():
    model = mmlk.create_model('pelk_tiny', features_only=True).eval()
    assert [y.shape[1] for y in model(X)] == [8, 16, 32, 64]
    backbone = REGISTRY.build(dict(type='mmlk.PeLK', arch='tiny')).eval()
    backbone.load_state_dict({key.removeprefix('backbone.'): value for key, value in model.state_dict().items()})
    for ours, theirs in zip(model(X), backbone(X), strict=True):
        assert torch.equal(ours, theirs)
    assert mmlk.create_model('pelk_tiny', features_only=True, out_indices=2).backbone.out_indices == (2, 3)


@pytest.mark.parametrize('family', TINY)
def test_weights_of_a_classifier(family, classifier_file):
    trained, path = classifier_file(family)
    loaded = mmlk.create_model(f'{family}_tiny', path, num_classes=5).eval()
    vector = mmlk.create_model(f'{family}_tiny', str(path), num_classes=0).eval()
    features = mmlk.create_model(f'{family}_tiny', path, features_only=True).eval()
    seen = []
    trained.backbone.stages[3].register_forward_hook(lambda module, x, y: seen.append(y))
    features.backbone.stages[3].register_forward_hook(lambda module, x, y: seen.append(y))
    with torch.no_grad():
        assert torch.equal(loaded(X), trained(X))
        assert torch.equal(vector(X), trained.forward_features(X))
        features(X)
    assert torch.equal(seen[0], seen[-1])


@pytest.mark.parametrize('family', ['slak', 'replknet', 'shiftwise', 'unireplknet'])
def test_weights_under_the_authors_names(family, classifier_file, tmp_path):
    trained, path = classifier_file(family)
    conversion = revert(torch.load(path, weights_only=True), family)
    assert set(conversion.weights) != set(trained.state_dict())
    theirs = tmp_path / 'theirs.pth'
    torch.save(conversion.checkpoint('x'), theirs)
    loaded = mmlk.create_model(f'{family}_tiny', theirs, num_classes=5).eval()
    with torch.no_grad():
        assert torch.equal(loaded(X), trained(X))
    assert mmlk.create_model(f'{family}_tiny', theirs, features_only=True).eval()(X)[0].shape == (2, 8, 16, 16)


def test_weights_of_a_segmentor(tmp_path):
    trained = mmlk.create_model('slak_tiny', features_only=True)
    torch.nn.init.normal_(trained.backbone.norm2.weight)
    path = tmp_path / 'segmentor.pth'
    heads = {'decode_head.conv_seg.weight': torch.ones(3), 'auxiliary_head.x': torch.ones(1)}
    torch.save({'state_dict': trained.state_dict() | heads}, path)
    loaded = mmlk.create_model('slak_tiny', path, features_only=True, out_indices=(2,))
    assert torch.equal(loaded.backbone.norm2.weight, trained.backbone.norm2.weight)
    with pytest.raises(mmlk.UsageError, match='has no classifier: give features_only=True'):
        mmlk.create_model('slak_tiny', path)


@pytest.mark.parametrize('family', TINY)
@pytest.mark.parametrize('features_only', [False, True])
def test_fused_network(family, features_only, classifier_file, tmp_path):
    trained, path = classifier_file(family)
    arguments = dict(features_only=features_only) if features_only else dict(num_classes=5)
    plain = mmlk.create_model(f'{family}_tiny', path, **arguments).eval()
    fused = mmlk.create_model(f'{family}_tiny', path, deploy=True, **arguments).eval()
    assert all(m.deployed for m in fused.modules() if isinstance(m, BaseMixer))
    with torch.no_grad():
        torch.testing.assert_close(fused(X), plain(X), rtol=1e-4, atol=1e-4)
    # A fused file loads into the fused network, and into no other.
    torch.save({'state_dict': fused.state_dict()}, tmp_path / 'fused.pth')
    again = mmlk.create_model(f'{family}_tiny', tmp_path / 'fused.pth', deploy=True, **arguments).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(X), fused(X), rtol=0, atol=0)
    form = 'strips' if family in ('slak', 'shiftwise') else 'dense'
    with pytest.raises(mmlk.UsageError, match=rf"is of the fused network \({form}\), deploy=False .* deploy='{form}'"):
        mmlk.create_model(f'{family}_tiny', tmp_path / 'fused.pth', **arguments)


def test_pictures_with_other_channels(classifier_file):
    trained, path = classifier_file('slak')
    grey = mmlk.create_model('slak_tiny', path, num_classes=5, in_chans=1).eval()
    with torch.no_grad():
        close(grey(X[:, :1]), trained(X[:, :1].expand(-1, 3, -1, -1)))
    assert mmlk.create_model('replknet_tiny', in_chans=6)(torch.ones(1, 6, 64, 64)).shape == (1, 1000)


def test_new_classifier_and_dropout():
    model = mmlk.create_model('pelk_tiny', num_classes=0, drop_rate=0.5).eval()
    assert model(X).shape == (2, 64)
    model.reset_classifier(7)
    assert model(X).shape == (2, 7) and model.num_classes == 7 and model.get_classifier() is model.head.fc
    assert torch.equal(model(X), model.forward_head(model.forward_features(X)))
    assert not torch.equal(model.train()(X), model(X))


class TestBadInput:
    def error(self, *arguments, **keywords) -> str:
        with pytest.raises(mmlk.UsageError) as caught:
            mmlk.create_model(*arguments, **keywords)
        assert '\n' not in str(caught.value)
        return str(caught.value)

    def test_name(self):
        message = self.error('slack_t')
        assert message.startswith("expected the name of a model, got 'slack_t'; did you mean slak_t")

    def test_no_such_file(self, tmp_path):
        message = self.error('slak_t', tmp_path / 'none.pth')
        assert f'found none at {tmp_path}/none.pth' in message and 'SLaK_tiny_checkpoint.pth' in message
        assert 'leave out pretrained' in message
        assert 'fetch' not in self.error('pelk_t', tmp_path / 'none.pth')

    def test_downloads(self):
        assert 'pretrained=True would download' in self.error('slak_t', True)
        assert 'must be a file on this machine' in self.error('slak_t', 'https://example.com/slak.pth')

    def test_file_that_is_no_checkpoint(self, tmp_path):
        (tmp_path / 'x.pth').write_bytes(b'no checkpoint')
        assert 'is not a checkpoint' in self.error('slak_tiny', tmp_path / 'x.pth')

    def test_classes(self, classifier_file):
        _, path = classifier_file('slak')
        message = self.error('slak_tiny', path)
        assert 'has 5 classes, not 1000: give num_classes=5, or num_classes=0 and then' in message

    def test_other_networks(self, classifier_file):
        _, path = classifier_file('slak')
        assert 'does not fit Classifier' in self.error('slak_t', path, num_classes=5)
        assert 'does not fit Classifier' in self.error('pelk_tiny', path, num_classes=5)
        assert 'does not fit FeatureExtractor' in self.error('replknet_tiny', path, features_only=True)

    def test_one_tensor_too_many_or_too_few(self, classifier_file, tmp_path):
        model, path = classifier_file('slak')
        weights = model.state_dict()
        torch.save(weights | {'backbone.extra': torch.ones(1)}, tmp_path / 'more.pth')
        assert '1 keys unexpected (backbone.extra)' in self.error('slak_tiny', tmp_path / 'more.pth', num_classes=5)
        weights.pop('backbone.stages.1.blocks.0.norm.bias')
        torch.save(weights, tmp_path / 'fewer.pth')
        for arguments in (dict(num_classes=5), dict(features_only=True)):
            message = self.error('slak_tiny', tmp_path / 'fewer.pth', **arguments)
            assert '1 keys missing (backbone.stages.1.blocks.0.norm.bias)' in message

    def test_authors_file_of_another_form(self, tmp_path):
        model = mmlk.create_model('slak_tiny', num_classes=5, kernel_size=(11, 9, 7, 7, 3))
        theirs = revert({'state_dict': model.state_dict()}, 'slak')
        torch.save(theirs.checkpoint('x'), tmp_path / 'theirs.pth')
        message = self.error('slak_tiny', tmp_path / 'theirs.pth', num_classes=5)
        assert 'give kernel_size=(11, 9, 7, 7, 3) as well' in message
        given = dict(num_classes=5, kernel_size=(11, 9, 7, 7, 3))
        assert mmlk.create_model('slak_tiny', tmp_path / 'theirs.pth', **given)

    def test_arguments(self):
        assert 'out_indices is about maps' in self.error('slak_tiny', out_indices=(1,))
        with pytest.raises(mmlk.UsageError, match="slak_tiny cannot be built with kernels=3: .* 'kernels'"):
            mmlk.create_model('slak_tiny', kernels=3)


def test_without_mmengine():
    """The names are there, and one sentence says what is missing."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'mmengine', 'mmcv', 'timm', 'torchvision'}:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Absent())
import mmlk
assert 'slak_t' in mmlk.list_models()
assert 'torch' in mmlk.create_model.__doc__
try:
    mmlk.create_model('slak_t')
except mmlk.UsageError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout
    assert output.startswith('mmlk.create_model needs mmengine, mmcv and timm, found no ')
    assert output.count('\n') == 1

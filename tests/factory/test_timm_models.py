"""The names in timm's registry, whichever of the two packages is imported first."""

import subprocess
import sys

import pytest
import timm
import timm.data
import torch

import mmlk
from mmlk.factory.names import MODELS
from mmlk.factory.timm_models import register

SMALL = dict(depths=(1, 1, 1, 1), kernel_size=(3, 7, 7, 7), channels=(8, 16, 32, 64))


def test_every_name_is_registered_once():
    assert set(timm.list_models('mmlk_*')) == {f'mmlk_{name}' for name in MODELS}
    before = len(timm.list_models())
    register(timm.models)
    assert len(timm.list_models()) == before
    assert timm.list_models('mmlk_*', pretrained=True) == []


def test_maps():
    model = timm.create_model('mmlk_unireplknet_a', features_only=True, out_indices=(1, 2), **SMALL).eval()
    maps = model(torch.ones(1, 3, 64, 64))
    assert [y.shape[1] for y in maps] == model.feature_info.channels() == [16, 32]
    assert model.feature_info.reduction() == [8, 16]


def test_logits_of_a_file(tmp_path):
    trained = mmlk.create_model('unireplknet_a', num_classes=5, **SMALL).eval()
    torch.save({'state_dict': trained.state_dict(), 'meta': {}}, tmp_path / 'x.pth')
    x = torch.randn(1, 3, 64, 64)
    for arguments in (dict(pretrained=str(tmp_path / 'x.pth')), dict(checkpoint_path=str(tmp_path / 'x.pth'))):
        model = timm.create_model('mmlk_unireplknet_a', num_classes=5, **arguments, **SMALL).eval()
        assert torch.equal(model(x), trained(x))


def test_pictures_as_the_network_was_trained_on_them():
    with torch.device('meta'):
        models = [timm.create_model(f'mmlk_{name}', depths=(1, 1, 1, 1)) for name in ('slak_t', 'replknet_xl')]
    slak, xl = (timm.data.resolve_model_data_config(model) for model in models)
    assert slak['input_size'] == (3, 224, 224) and slak['mean'] == (0.485, 0.456, 0.406)
    assert xl['input_size'] == (3, 320, 320) and xl['mean'] == xl['std'] == (0.5, 0.5, 0.5)
    assert xl['crop_pct'] == pytest.approx(320 / 365)


def test_downloads_are_refused():
    with pytest.raises(mmlk.UsageError, match='give the path of a file'):
        timm.create_model('mmlk_slak_t', pretrained=True)
    with pytest.raises(mmlk.UsageError, match="got the tag 'in1k'"):
        timm.create_model('mmlk_slak_t.in1k')


@pytest.mark.parametrize('order', ['import timm, mmlk', 'import mmlk; assert "timm" not in sys.modules; import timm'])
def test_order_of_imports(order):
    code = f"""
import sys
{order}
assert 'mmlk_pelk_t' in timm.list_models('mmlk_*')
assert 'mmengine' not in sys.modules and 'mmlk.models' not in sys.modules
print(len(timm.list_models('mmlk_*')))
"""
    output = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout
    assert int(output) == len(MODELS)

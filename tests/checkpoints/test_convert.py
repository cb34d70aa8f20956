"""Conversion of checkpoints: SLaK's files in every wrapping and form, tiny, and what is told of them."""

import argparse

import pytest
import torch
from authors_keys import same
from mmengine.registry import MODELS
from tiny_slak import CLASSES, authors_slak, authors_upernet, classifier, upernet
from tool_runner import run_tool

from mmlk.checkpoints.convert import convert, revert, write_checkpoint
from mmlk.checkpoints.families import FAMILIES
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.errors import UsageError

pytestmark = pytest.mark.usefixtures('tiny_arch')


class TestWrappings:
    @pytest.mark.parametrize(
        'wrap',
        [
            lambda w: w,
            lambda w: {'model': w, 'optimizer': {'state': {}}, 'epoch': 3, 'args': argparse.Namespace(lr=1)},
            lambda w: {'state_dict': w, 'meta': {'epoch': 3}},
            lambda w: {'module': w},
            lambda w: {'model': {f'module.{key}': value for key, value in w.items()}},
            lambda w: {
                'state_dict': {f'module.backbone.{key}': value for key, value in w.items() if 'head' not in key}
            },
        ],
        ids=['flat', 'model', 'state_dict', 'module', 'module-prefix', 'both-prefixes'],
    )
    def test_are_taken_off(self, wrap):
        source = authors_slak()
        plain = convert(source, 'slak').weights
        wrapped = convert(wrap(source), 'slak').weights
        assert {key for key in plain if key not in wrapped} <= {'head.fc.weight', 'head.fc.bias'}
        assert all(torch.equal(value, plain[key]) for key, value in wrapped.items())

    def test_ema_on_request(self):
        raw, averaged = authors_slak(), authors_slak()
        file = {'model': raw, 'model_ema': averaged, 'epoch': 1}
        for ema, expected in ((False, raw), (True, averaged)):
            weights = convert(file, 'slak', ema=ema).weights
            assert torch.equal(
                weights['backbone.stages.0.blocks.0.mixer.vertical_weight'],
                expected['stages.0.0.large_kernel.LoRA1.conv.weight'],
            )
        with pytest.raises(UsageError, match="--ema takes the weights under 'model_ema', the checkpoint has 'model'"):
            convert({'model': raw}, 'slak', ema=True)

    def test_downstream_heads_stay_as_they_are(self):
        source = authors_upernet()
        conversion = convert({'state_dict': source, 'meta': {}}, 'slak')
        assert set(conversion.kept) == {key for key in source if not key.startswith('backbone.')} != set()
        for key in conversion.kept:
            assert torch.equal(conversion.weights[key], source[key])
        # The classifier's norm has no place here, and is said to be missing.
        assert set(conversion.missing) == {'norm.weight', 'norm.bias'}
        MODELS.build(upernet()).load_state_dict(conversion.weights, strict=True)
        back = revert(conversion.checkpoint('source.pth'), 'slak')
        assert same(back.checkpoint('')['state_dict'], source)

    def test_copies_of_old_hooks_are_dropped(self):
        source = authors_upernet()
        copies = {'ema_' + key.replace('.', '_'): value for key, value in source.items()}
        conversion = convert(source | copies, 'slak')
        assert set(conversion.dropped) == set(copies)
        assert set(conversion.dropped.values()) == {
            "copies made by the EMA hook of mmcv 1.x beside the model's own weights"
        }
        assert set(conversion.weights) == set(convert(source, 'slak').weights)

    def test_views_are_saved_alone(self, tmp_path):
        source = authors_slak()
        large = torch.randn(1_000_000)
        source['head.bias'] = large[:CLASSES]
        write_checkpoint(convert(source, 'slak').checkpoint('a.pth'), tmp_path / 'b.pth')
        assert (tmp_path / 'b.pth').stat().st_size < 1_000_000


def test_report(tmp_path):
    source = authors_upernet()
    source |= {'ema_backbone_norm0_weight': torch.ones(4)}
    torch.save({'state_dict': source, 'meta': {'epoch': 1}}, tmp_path / 'theirs.pth')
    result = run_tool(
        'convert_checkpoint.py', tmp_path / 'theirs.pth', tmp_path / 'new' / 'ours.pth', '--family', 'slak'
    )
    assert result.code == 0, result.err
    rows = {}
    for line in result.out.splitlines():
        cells = [cell.strip() for cell in line.strip('│ ').split('│')]
        if len(cells) == 2:
            rows[cells[0]] = cells[1]
    assert rows['family'] == 'slak'
    assert rows['network'] == "dict(type='mmlk.SLaK', arch='tiny')"
    heads = [key for key in source if key.startswith(('decode_head', 'auxiliary_head'))]
    assert rows['matched'].startswith(f'{len(source) - len(heads) - 1} tensors')
    decode = sum(key.startswith('decode_head.') for key in heads)
    assert rows['kept as they are'] == f'{decode} of decode_head, {len(heads) - decode} of auxiliary_head'
    assert rows['dropped'].startswith('1: copies made by the EMA hook of mmcv 1.x')
    assert rows['missing'].startswith("2: the classifier's norm, which a downstream model does without (norm.weight")
    assert rows['written to'] == str(tmp_path / 'new' / 'ours.pth')
    weights = load_checkpoint_file(tmp_path / 'new' / 'ours.pth')['state_dict']
    MODELS.build(upernet()).load_state_dict(weights, strict=True)


def test_help_has_examples():
    result = run_tool('convert_checkpoint.py', '--help')
    assert result.code == 0
    assert 'SLaK_tiny_checkpoint.pth checkpoints/slak_t.pth --family slak' in result.out
    assert all(family in result.out for family in FAMILIES)


class TestForms:
    @pytest.mark.parametrize(
        ('source', 'network'),
        [
            (dict(), dict()),
            (dict(form='dense'), dict(decompose=False)),
            (dict(form='merged'), dict(deploy='dense')),
            (dict(bn=False), dict(conv_norm_cfg=None)),
            (dict(kernels=(17, 15, 9, 7), short=3), dict(kernel_size=(17, 15, 9, 7, 3))),
            (
                dict(form='convnext', kernels=(7, 7, 7, 7)),
                dict(decompose=False, kernel_size=(7, 7, 7, 7, 100)),
            ),
        ],
        ids=['released', 'not-decomposed', 'merged', 'no-bn', 'other-kernels', 'convnext'],
    )
    def test_are_recognised_and_load(self, source, network):
        weights = authors_slak(**source)
        conversion = convert(weights, 'slak')
        assert conversion.network == dict(type='mmlk.SLaK', arch='tiny') | network
        model = MODELS.build(classifier(**network))
        model.load_state_dict(conversion.weights, strict=True)
        x = torch.randn(2, 3, 64, 64)
        (vector,) = model.eval().backbone(x)
        expected = vector @ weights['head.weight'].T + weights['head.bias']
        assert torch.allclose(model(x), expected, atol=1e-5)
        assert same(revert(conversion.checkpoint(''), 'slak').weights, weights)

    def test_strips_have_no_form_of_the_authors(self):
        ours = MODELS.build(classifier(deploy='strips')).state_dict()
        with pytest.raises(UsageError, match='fits no network of family slak'):
            revert({'state_dict': ours}, 'slak')


class TestLoading:
    @pytest.fixture
    def converted(self, tmp_path):
        source = authors_slak()
        write_checkpoint(convert(source, 'slak').checkpoint('theirs.pth'), tmp_path / 'slak.pth')
        return source, str(tmp_path / 'slak.pth')

    @pytest.mark.parametrize('prefix', [dict(prefix='backbone.'), dict()], ids=['prefix', 'no-prefix'])
    @pytest.mark.parametrize('make', [upernet, classifier])
    def test_as_init_cfg(self, converted, make, prefix):
        source, path = converted
        model = MODELS.build(make(init_cfg=dict(type='Pretrained', checkpoint=path, **prefix)))
        model.init_weights()
        net = model.backbone
        block = source['stages.1.1.pwconv1.weight'], net.stages[1].blocks[1].ffn.fc1.weight.data
        assert torch.equal(*block)
        wanted = {k: v for k, v in convert(source, 'slak').weights.items() if k.startswith('backbone.')}
        for key, value in net.state_dict().items():
            if not key.startswith('norm') or make is classifier:
                assert torch.equal(value, wanted[f'backbone.{key}']), key

    def test_as_load_from(self, converted):
        from mmengine.runner import load_checkpoint

        source, path = converted
        model = MODELS.build(classifier())
        checkpoint = load_checkpoint(model, path, strict=True)
        assert checkpoint['meta']['family'] == 'slak'
        assert torch.equal(model.head.fc.weight.data, source['head.weight'])

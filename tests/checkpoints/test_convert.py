"""Conversion of checkpoints: every family's published keys at full size, and SLaK's files in every wrapping, tiny."""

import argparse

import pytest
import torch
from authors_keys import NAMES, load_keys
from mmengine.registry import MODELS
from tool_runner import run_tool
from torch import nn

import mmlk  # noqa: F401
from mmlk.checkpoints.convert import convert, revert, write_checkpoint
from mmlk.checkpoints.families import FAMILIES
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.errors import UsageError
from mmlk.models import SLaK

#: Key list -> family, and the network it has to be recognised as.
PUBLISHED = {
    'replknet_31b': ('replknet', dict(type='mmlk.RepLKNet', arch='31b')),
    'replknet_31l': ('replknet', dict(type='mmlk.RepLKNet', arch='31l')),
    'replknet_xl': ('replknet', dict(type='mmlk.RepLKNet', arch='xl')),
    'slak_t': ('slak', dict(type='mmlk.SLaK', arch='t')),
    'slak_s': ('slak', dict(type='mmlk.SLaK', arch='s')),
    'slak_b': ('slak', dict(type='mmlk.SLaK', arch='b')),
    'sw1_t': ('shiftwise', dict(type='mmlk.ShiftWiseNet', arch='v1_t')),
    'sw2_t': ('shiftwise', dict(type='mmlk.ShiftWiseNet', arch='v2_t')),
    'sw2_s': ('shiftwise', dict(type='mmlk.ShiftWiseNet', arch='v2_s')),
    'unireplknet_t': ('unireplknet', dict(type='mmlk.UniRepLKNet', arch='t')),
}

DEPTHS, CHANNELS, KERNELS, CLASSES = (1, 2, 1, 1), (4, 6, 8, 10), (13, 11, 9, 7), 3


@pytest.fixture(autouse=True)
def tiny_arch(monkeypatch):
    """A SLaK small enough to write to files, as one more architecture."""
    fields = dict(depths=DEPTHS, base_channels=CHANNELS, width_factor=1.0, kernel_size=(*KERNELS, 5))
    monkeypatch.setattr(SLaK, 'arch_zoo', {'tiny': fields} | SLaK.arch_zoo)


def authors_slak(form='decomposed', short=5, kernels=KERNELS, bn=True, classifier=True) -> dict[str, torch.Tensor]:
    """A state dict of the authors' SLaK, every value drawn anew."""
    weights = {}

    def add(key, *shape):
        weights[key] = torch.randn(shape)

    def add_norm(key, width, batch_norm=False):
        add(f'{key}.weight', width)
        add(f'{key}.bias', width)
        if batch_norm:
            add(f'{key}.running_mean', width)
            weights[f'{key}.running_var'] = torch.rand(width) + 0.5
            weights[f'{key}.num_batches_tracked'] = torch.tensor(len(weights))

    for s, (depth, width, long) in enumerate(zip(DEPTHS, CHANNELS, kernels, strict=True)):
        if s == 0:
            add('downsample_layers.0.0.weight', width, 3, 4, 4)
            add('downsample_layers.0.0.bias', width)
            add_norm('downsample_layers.0.1', width)
        else:
            add_norm(f'downsample_layers.{s}.0', CHANNELS[s - 1])
            add(f'downsample_layers.{s}.1.weight', width, CHANNELS[s - 1], 2, 2)
            add(f'downsample_layers.{s}.1.bias', width)
        for b in range(depth):
            block = f'stages.{s}.{b}'
            add(f'{block}.gamma', width)
            parts = {
                'decomposed': {'LoRA1': (long, short), 'LoRA2': (short, long), 'small_conv': (short, short)},
                'dense': {'lkb_origin': (long, long), 'small_conv': (short, short)},
                'convnext': {'lkb_origin': (long, long)},
                'merged': {},
            }[form]
            for part, edges in parts.items():
                add(f'{block}.large_kernel.{part}.conv.weight', width, 1, *edges)
                if bn:
                    add_norm(f'{block}.large_kernel.{part}.bn', width, batch_norm=True)
            if form == 'merged':
                add(f'{block}.large_kernel.lkb_reparam.weight', width, 1, long, long)
                add(f'{block}.large_kernel.lkb_reparam.bias', width)
            add_norm(f'{block}.norm', width)
            for part, shape in (('pwconv1', (4 * width, width)), ('pwconv2', (width, 4 * width))):
                add(f'{block}.{part}.weight', *shape)
                add(f'{block}.{part}.bias', shape[0])
    if classifier:
        add_norm('norm', CHANNELS[3])
        add('head.weight', CLASSES, CHANNELS[3])
        add('head.bias', CLASSES)
    return weights


def authors_upernet() -> dict[str, torch.Tensor]:
    """As mmseg 0.x saves it."""
    weights = {f'backbone.{key}': value for key, value in authors_slak(classifier=False).items()}
    for s, width in enumerate(CHANNELS):
        weights |= {f'backbone.norm{s}.weight': torch.randn(width), f'backbone.norm{s}.bias': torch.randn(width)}
    head = MODELS.build(upernet()).state_dict()
    return weights | {key: torch.rand(v.shape).to(v.dtype) for key, v in head.items() if 'backbone.' not in key}


def upernet(**backbone) -> dict:
    norm = dict(type='BN')
    head = dict(num_classes=2, channels=4, norm_cfg=norm, type='mmseg.UPerHead', pool_scales=(1, 2))
    return dict(
        type='mmseg.EncoderDecoder',
        backbone=dict(type='mmlk.SLaK', arch='tiny', **backbone),
        decode_head=dict(head, in_channels=list(CHANNELS), in_index=[0, 1, 2, 3]),
        auxiliary_head=dict(
            type='mmseg.FCNHead', in_channels=8, in_index=2, channels=4, num_convs=1, num_classes=2, norm_cfg=norm
        ),
        _scope_='mmseg',
    )


def classifier(**backbone) -> dict:
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmlk.SLaK', arch='tiny', final_norm=True, **backbone),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=CLASSES, in_channels=CHANNELS[3]),
        _scope_='mmpretrain',
    )


def same(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


class TestPublishedNetworks:
    def test_all_are_here(self):
        assert set(PUBLISHED) == set(NAMES)
        assert {family for family, _ in PUBLISHED.values()} | {'mmpretrain'} == set(FAMILIES)

    @pytest.mark.parametrize('name', PUBLISHED)
    def test_every_key_finds_its_place(self, name):
        family, network = PUBLISHED[name]
        shapes, params = load_keys(name)
        source = {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}
        conversion = convert({'model': source}, family)
        assert conversion.network == network
        assert (conversion.dropped, conversion.missing, conversion.kept) == ({}, {}, ())
        # A bijection: every source tensor itself is at its place, and only there.
        assert set(conversion.matched) == set(source)
        assert len(conversion.weights) == len(source) == len({id(value) for value in conversion.weights.values()})
        assert all(conversion.weights[ours] is source[key] for key, ours in conversion.matched.items())
        # The network takes exactly these.
        with torch.device('meta'):
            net = nn.Module()
            net.backbone = MODELS.build(network | {'final_norm': True})
            net.head = nn.Module()
            net.head.fc = nn.Linear(net.backbone.channels[-1], 1000)
        net.load_state_dict(conversion.weights, strict=True, assign=True)
        assert sum(p.numel() for p in net.parameters()) == params
        # And back again.
        back = revert(conversion.checkpoint('source.pth'), family)
        assert set(back.weights) == set(source)
        assert all(back.weights[key] is source[key] for key in source)

    @pytest.mark.parametrize('name', ['replknet_31b', 'replknet_31l', 'replknet_xl'])
    def test_mmpretrain(self, name):
        source = {}
        for key, shape in load_keys(name)[0].items():
            if key.startswith('norm.'):
                key = f'backbone.stages.3.{key}'
            elif key.startswith('head.'):
                key = f'head.fc.{key.removeprefix("head.")}'
            else:
                key = f'backbone.{key}'
            source[key] = torch.empty(shape, device='meta')
        conversion = convert({'meta': {}, 'state_dict': source}, 'mmpretrain')
        assert conversion.network == PUBLISHED[name][1]
        assert set(conversion.matched) == set(source)
        back = revert(conversion.checkpoint('source.pth'), 'mmpretrain')
        assert back.wrapper == 'state_dict'
        assert all(back.weights[key] is source[key] for key in source)
        with pytest.raises(UsageError, match='does not fit family replknet, it looks like mmpretrain'):
            convert(source, 'replknet')

    @pytest.mark.parametrize('name', PUBLISHED)
    def test_downstream_file(self, name):
        """The body under ``backbone.``, without classifier, beside a head that stays as it is."""
        family, network = PUBLISHED[name]
        source = {
            f'backbone.{key}': torch.empty(shape, device='meta')
            for key, shape in load_keys(name)[0].items()
            if not key.startswith(('norm.', 'head.'))
        }
        source |= {'decode_head.conv_seg.bias': torch.empty(150, device='meta')}
        if name == 'replknet_xl':
            source |= {
                f'backbone.stages.{s}.norm.{part}': torch.empty(256 * 2**s, device='meta')
                for s in range(4)
                for part in ('weight', 'bias', 'running_mean', 'running_var')
            }
        conversion = convert({'state_dict': source, 'meta': {'epoch': 1}}, family)
        assert conversion.network == network
        assert set(conversion.matched) | {'decode_head.conv_seg.bias'} == set(source)
        assert {key.partition('.')[0] for key in conversion.missing} == {'norm'}
        with torch.device('meta'):
            net = MODELS.build(network)
        weights = {key.removeprefix('backbone.'): value for key, value in conversion.weights.items()}
        missing, unexpected = net.load_state_dict(weights, strict=False, assign=True)
        assert unexpected == ['decode_head.conv_seg.bias']
        # Only what the authors' ImageNet files do not have either: the norms of the outputs. XL's file has them.
        norms = set() if name == 'replknet_xl' else {'norm0', 'norm1', 'norm2', 'norm3'}
        assert {key.partition('.')[0] for key in missing if not key.endswith('num_batches_tracked')} <= norms
        back = revert(conversion.checkpoint(''), family)
        assert back.wrapper == 'state_dict'
        assert all(back.weights[key] is source[key] for key in source)

    @pytest.mark.parametrize(
        ('family', 'network', 'entries'),
        [
            ('slak', dict(type='mmlk.SLaK', arch='t', deploy='dense'), 470 - 18 * 18 + 18 * 2),
            ('replknet', dict(type='mmlk.RepLKNet', arch='31b', deploy=True), 931),
            ('replknet', dict(type='mmlk.RepLKNet', arch='xl', deploy=True), 931),
            ('unireplknet', dict(type='mmlk.UniRepLKNet', arch='t', deploy=True), 321),
            ('shiftwise', dict(type='mmlk.ShiftWiseNet', arch='v2_t', num_paths=1), 1023 - 27),
        ],
        ids=lambda value: value.get('arch') if isinstance(value, dict) else str(value),
    )
    def test_merged_networks(self, family, network, entries):
        with torch.device('meta'):
            net = MODELS.build(network | {'final_norm': True})
        ours = {f'backbone.{key}': value for key, value in net.state_dict().items()}
        ours |= {
            'head.fc.weight': torch.empty(1000, net.channels[-1], device='meta'),
            'head.fc.bias': torch.empty(1000, device='meta'),
        }
        back = revert({'state_dict': ours}, family)
        assert back.network == network
        assert len(back.weights) == entries
        conversion = convert(back.checkpoint(''), family)
        assert conversion.network == network
        assert set(conversion.weights) == set(ours)
        assert all(conversion.weights[key] is ours[key] for key in ours)

    @pytest.mark.parametrize('name', PUBLISHED)
    def test_wrong_family_names_the_right_one(self, name):
        source = {key: torch.empty(shape, device='meta') for key, shape in load_keys(name)[0].items()}
        for other in set(FAMILIES) - {PUBLISHED[name][0]}:
            with pytest.raises(UsageError, match=f'does not fit family {other}, it looks like {PUBLISHED[name][0]} '):
                convert(source, other)


def distinct_values(name: str) -> dict[str, torch.Tensor]:
    """A state dict with an authors' keys and shapes in which no two values have the same bits."""
    start, source = 1, {}
    for key, shape in load_keys(name)[0].items():
        count = torch.Size(shape).numel()
        bits = torch.arange(start, start + count, dtype=torch.int32)
        source[key] = bits[0].long() if key.endswith('num_batches_tracked') else bits.view(torch.float32).view(shape)
        start += count
    return source


@pytest.mark.parametrize('name', ['slak_t', 'sw1_t', 'sw2_t', 'unireplknet_t'])
def test_file_round_trip_at_full_size(name, tmp_path, repository, monkeypatch):
    """30 to 50 M values, as the authors' training writes them: there by the command line, into a network, back."""
    monkeypatch.chdir(repository)
    family, network = PUBLISHED[name]
    source = distinct_values(name)
    args = argparse.Namespace(model='tiny', kernel_size=[51, 49, 47, 13, 5])
    torch.save(dict(model=source, optimizer={}, epoch=299, scaler={}, args=args), tmp_path / 'theirs.pth')
    result = run_tool('convert_checkpoint.py', tmp_path / 'theirs.pth', tmp_path / 'ours.pth', '--family', family)
    assert result.code == 0, result.err
    report = ' '.join(result.out.split())
    assert f"dict(type='{network['type']}', arch='{network['arch']}')" in report
    values = sum(value.numel() for value in source.values())
    assert f'{len(source)} tensors, {values / 1e6:.2f} M values' in report

    ours = load_checkpoint_file(tmp_path / 'ours.pth')
    assert ours['meta']['backbone'] == network
    with torch.device('meta'):
        net = MODELS.build(dict(network, final_norm=True))
    weights = {k.removeprefix('backbone.'): v for k, v in ours['state_dict'].items() if not k.startswith('head.')}
    net.load_state_dict(weights, strict=True, assign=True)
    if family == 'slak':
        mixer = net.stages[2].blocks[4].mixer
        assert torch.equal(mixer.vertical_weight.data, source['stages.2.4.large_kernel.LoRA1.conv.weight'])
        assert torch.equal(mixer.horizontal_weight.data, source['stages.2.4.large_kernel.LoRA2.conv.weight'])

    (tmp_path / 'theirs.pth').unlink()
    command = [tmp_path / 'ours.pth', tmp_path / 'back.pth', '--family', family, '--reverse']
    result = run_tool('convert_checkpoint.py', *command)
    assert result.code == 0, result.err
    assert same(load_checkpoint_file(tmp_path / 'back.pth')['model'], source)


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


class TestRefusals:
    """Nothing is written unless everything is explained."""

    def run(self, tmp_path, checkpoint, *options):
        source = tmp_path / 'theirs.pth'
        if isinstance(checkpoint, bytes):
            source.write_bytes(checkpoint)
        elif checkpoint is not None:
            torch.save(checkpoint, source)
        result = run_tool('convert_checkpoint.py', source, tmp_path / 'out' / 'ours.pth', '--family', 'slak', *options)
        assert not (tmp_path / 'out').exists()
        return result.error

    def changed(self, **changes):
        return {key: value for key, value in (authors_slak() | changes).items() if value is not None}

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            ({'stages.0.0.extra': torch.ones(1)}, '1 keys that family slak does not explain (stages.0.0.extra)'),
            (
                {'stages.0.0.norm.weight': None},
                "fits no network of family slak; the nearest is dict(type='mmlk.SLaK', arch='tiny'), with 1 keys "
                'missing (stages.0.blocks.0.norm.weight)',
            ),
            (
                {'stages.0.0.gamma': torch.ones(5)},
                '1 of another shape (stages.0.blocks.0.layer_scale.gamma (5,) instead of (4,))',
            ),
            (
                {'stages.3.1.gamma': torch.ones(10)},
                '1 keys unexpected (stages.3.blocks.1.layer_scale.gamma)',
            ),
            ({'norm.bias': None}, '1 keys missing (norm.bias)'),
            ({'head.bias': None}, '1 keys missing (head.fc.bias)'),
            ({'module.head.bias': torch.ones(3)}, "holds head.bias twice, with and without 'module.' in front"),
            ({'note': 'text'}, '1 entries among its weights that are no tensors (note)'),
        ],
        ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
    )
    def test_altered_files(self, tmp_path, changes, message):
        assert message in self.run(tmp_path, self.changed(**changes))

    @pytest.mark.parametrize(
        ('checkpoint', 'message'),
        [
            (None, 'does not exist'),
            (b'', 'is empty'),
            (b'<html>not found</html>', 'is not a checkpoint written by torch.save'),
            ([1, 2], 'holds a list, expected a checkpoint'),
            ({'epoch': 3}, "holds no tensors, only 'epoch'"),
        ],
        ids=['absent', 'empty', 'text', 'list', 'no-tensors'],
    )
    def test_no_checkpoint(self, tmp_path, checkpoint, message):
        assert message in self.run(tmp_path, checkpoint)

    def test_truncated_file(self, tmp_path):
        torch.save(authors_slak(), tmp_path / 'whole.pth')
        whole = (tmp_path / 'whole.pth').read_bytes()
        assert 'truncated, damaged' in self.run(tmp_path, whole[: len(whole) // 2])

    def test_wrong_variant_and_unknown_names(self, tmp_path):
        message = self.run(tmp_path, authors_slak(), '--arch', 's')
        assert "is arch 'tiny' of family slak, not 's': give --arch tiny or leave it out" in message
        assert 'arch of family slak must be one of' in self.run(tmp_path, authors_slak(), '--arch', 'xl')
        with pytest.raises(UsageError, match="family must be one of .* got 'convnext'"):
            convert(authors_slak(), 'convnext')

    def test_wrong_direction(self, tmp_path):
        theirs = authors_slak()
        ours = convert(theirs, 'slak').checkpoint('')
        assert 'has the names of mmlk already' in self.run(tmp_path, ours)
        assert 'has the names of family slak already: leave out --reverse' in self.run(tmp_path, theirs, '--reverse')

    def test_ema_and_reverse(self, tmp_path):
        result = run_tool('convert_checkpoint.py', 'a', 'b', '--family', 'slak', '--ema', '--reverse')
        assert result.code == 2
        assert 'give one of them' in result.err

    def test_places_that_cannot_be_written(self, tmp_path):
        source = tmp_path / 'theirs.pth'
        torch.save(authors_slak(), source)
        before = source.read_bytes()
        for target, message in (
            (source, 'DST must be another file than SRC'),
            (tmp_path, 'is a directory'),
            (source / 'ours.pth', 'theirs.pth is a file: give a folder to write ours.pth in'),
        ):
            assert message in run_tool('convert_checkpoint.py', source, target, '--family', 'slak').error
        assert source.read_bytes() == before
        assert list(tmp_path.iterdir()) == [source]

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        target = tmp_path / 'ours.pth'
        target.write_text('old')

        def save(checkpoint, file):
            file.write(b'half')
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(torch, 'save', save)
        with pytest.raises(UsageError, match=r'could not be written \(No space left on device\)'):
            write_checkpoint({}, target)
        assert target.read_text() == 'old'
        assert list(tmp_path.iterdir()) == [target]

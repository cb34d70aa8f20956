"""Conversion of checkpoints: every family's published keys at full size."""

import argparse

import pytest
import torch
from authors_keys import NAMES, load_keys, same
from mmengine.registry import MODELS
from tool_runner import run_tool
from torch import nn

import mmlk  # noqa: F401
from mmlk.checkpoints.convert import convert, revert
from mmlk.checkpoints.families import FAMILIES
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.errors import UsageError

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

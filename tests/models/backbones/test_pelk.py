import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

import mmlk  # noqa: F401
from mmlk.models import PeLK
from mmlk.models.mixers import PeripheralMixer


def on_meta(**arguments) -> PeLK:
    with torch.device('meta'):
        return MODELS.build(dict(type='mmlk.PeLK', **arguments))


@pytest.mark.parametrize(
    ('arch', 'depths', 'channels', 'kernels', 'edges'),
    [
        ('t', (3, 3, 9, 3), (124, 249, 499, 998), (51, 49, 47, 13), (13, 13, 13, 9)),
        ('s', (3, 3, 27, 3), (124, 249, 499, 998), (51, 49, 47, 13), (13, 13, 13, 9)),
        ('b', (3, 3, 27, 3), (166, 332, 665, 1331), (51, 49, 47, 13), (13, 13, 13, 9)),
        ('b_101', (3, 3, 27, 3), (166, 332, 665, 1331), (101, 69, 67, 13), (17, 15, 15, 11)),
        ('t_101', (3, 3, 9, 3), (124, 249, 499, 998), (101, 69, 67, 13), (17, 15, 15, 11)),
    ],
)
def test_architectures(arch, depths, channels, kernels, edges):
    """Table of section 4.4: depths, widths int(width * 1.3), kernels, k' of the sharing grids, 3/8 of the channels."""
    net = on_meta(arch=arch)
    assert net.channels == channels
    assert tuple(len(stage.blocks) for stage in net.stages) == depths
    for stage, width, kernel, edge in zip(net.stages, channels, kernels, edges, strict=True):
        g = width * 3 // 8
        assert stage.shared['position_embedding'].weight.shape == (g, kernel, kernel)
        for block in stage.blocks:
            assert isinstance(block.mixer, PeripheralMixer)
            assert block.mixer.weight.shape == (g, 1, edge, edge)
            assert block.mixer._shared_embedding[0] is stage.shared['position_embedding']


def test_arch_as_mapping_and_overrides():
    fields = PeLK.arch_zoo['t'] | {'kernel_size': (151, 89, 87, 13)}
    net = on_meta(arch=fields, depths=(1, 1, 1, 1), sharing_grid=(None, None, None, (6, 1, 6)))
    assert net.stages[0].blocks[0].mixer.kernel_size == (151, 151)
    assert net.stages[3].blocks[0].mixer.weight.shape[2:] == (3, 3)
    with pytest.raises(ValueError, match='sharing_grid must add up to kernel_size 13'):
        on_meta(sharing_grid=(None, None, None, (6, 1, 5)))
    with pytest.raises(ValueError, match='sharing_grid must hold four entries'):
        on_meta(sharing_grid=(None, (6, 1, 6)))
    with pytest.raises(ValueError, match='position_embedding has no effect'):
        on_meta(position_embedding=True, conv_norm_cfg=dict(type='BN'))


def test_equals_the_block_equations():
    """Section 4.4 and facts of the SLaK body, restated plainly in float64."""
    net = PeLK(
        't', depths=(1, 2, 1, 1), width_factor=0.25, kernel_size=(13, 11, 9, 7), layer_scale_init_value=0.7
    ).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    x = image = torch.randn(1, 3, 40, 56, dtype=torch.float64)
    p = dict(net.named_parameters())

    def layer_norm(y, key):
        mean = y.mean(1, keepdim=True)
        variance = (y - mean).square().mean(1, keepdim=True)
        y = (y - mean) / (variance + 1e-6).sqrt()
        return y * p[f'{key}.weight'][:, None, None] + p[f'{key}.bias'][:, None, None]

    expected = []
    for s in range(4):
        down = f'downsample_layers.{s}'
        if s == 0:
            x = layer_norm(F.conv2d(x, p[f'{down}.0.weight'], p[f'{down}.0.bias'], stride=4), f'{down}.1')
        else:
            x = F.conv2d(layer_norm(x, f'{down}.0'), p[f'{down}.1.weight'], p[f'{down}.1.bias'], stride=2)
        h = p[f'stages.{s}.shared.position_embedding.weight']
        for b in range(len(net.stages[s].blocks)):
            block = f'stages.{s}.blocks.{b}'
            grid = torch.tensor(net.stages[s].blocks[b].mixer.sharing_grid)
            w = p[f'{block}.mixer.weight'].repeat_interleave(grid, 2).repeat_interleave(grid, 3)
            g = len(w)
            bias = (w[:, 0] * h).sum((1, 2))
            y = torch.cat([F.conv2d(x[:, :g], w, bias, padding=w.shape[2] // 2, groups=g), x[:, g:]], 1)
            y = layer_norm(y, f'{block}.norm')
            y = (
                torch.einsum('nchw,dc->ndhw', y, p[f'{block}.ffn.fc1.weight'])
                + p[f'{block}.ffn.fc1.bias'][:, None, None]
            )
            y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
            y = (
                torch.einsum('nchw,dc->ndhw', y, p[f'{block}.ffn.fc2.weight'])
                + p[f'{block}.ffn.fc2.bias'][:, None, None]
            )
            x = x + p[f'{block}.layer_scale.gamma'][:, None, None] * y
        expected.append(layer_norm(x, f'norm{s}'))
    for actual, wanted in zip(net(image), expected, strict=True):
        assert ((actual - wanted).norm() / wanted.norm()).item() < 1e-12


def test_gradient_of_the_position_embedding_in_the_default_form():
    net = PeLK('t', depths=(1, 1, 1, 1), layer_scale_init_value=1.0)
    y = net(torch.randn(2, 3, 64, 64))
    sum((f * torch.randn_like(f)).mean() for f in y).backward()
    for stage in net.stages:
        embedding, kernel = stage.shared['position_embedding'].weight, stage.blocks[0].mixer.weight
        # Both are spread over many taps; what counts is that one is not rounding noise beside the other.
        assert embedding.grad.norm() > 1e-3 * kernel.grad.norm() > 0


@pytest.mark.parametrize(
    ('name', 'stage_wise', 'layer_wise'),
    [
        ('downsample_layers.0.0.weight', 0, 0),
        ('downsample_layers.1.0.bias', 0, 2),
        ('downsample_layers.2.1.weight', 0, 3),
        ('downsample_layers.3.1.weight', 0, 12),
        ('stages.0.blocks.2.norm.weight', 1, 1),
        ('stages.0.shared.position_embedding.weight', 1, 1),
        ('stages.1.blocks.0.mixer.weight', 2, 2),
        ('stages.2.blocks.0.ffn.fc1.weight', 3, 3),
        ('stages.2.blocks.2.ffn.fc1.weight', 3, 3),
        ('stages.2.blocks.3.ffn.fc1.weight', 3, 4),
        ('stages.2.blocks.26.ffn.fc1.weight', 3, 11),
        ('stages.3.blocks.1.layer_scale.gamma', 4, 12),
        ('norm0.weight', 13, 13),
    ],
)
def test_layer_depth(name, stage_wise, layer_wise):
    net = on_meta(arch='s')
    assert name in dict(net.named_parameters())
    assert net.get_layer_depth(name, num_layers=12, decay_type='stage_wise') == (stage_wise, 14)
    assert net.get_layer_depth(f'backbone.{name}', 'backbone.', num_layers=12) == (layer_wise, 14)
    assert net.get_layer_depth('decode_head.conv.weight', 'backbone.', num_layers=12) == (13, 14)


def test_layer_depth_rejects_other_types():
    with pytest.raises(ValueError, match="decay_type must be 'layer_wise' or 'stage_wise', got 'flat'"):
        on_meta(arch='t').get_layer_depth('norm0.weight', decay_type='flat')

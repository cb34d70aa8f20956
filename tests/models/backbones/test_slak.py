import pytest
import torch
from mmengine.registry import MODELS
from numerics import FUSION_NETWORK, randomise, relative_error
from torch.nn import functional as F

import mmlk  # noqa: F401
from mmlk.models import SLaK, StripeMixer, switch_to_deploy
from mmlk.models.mixers import DenseMixer

TINY = dict(depths=(1, 2, 1, 1), width_factor=0.125)


def on_meta(**arguments) -> SLaK:
    with torch.device('meta'):
        return MODELS.build(dict(type='mmlk.SLaK', **arguments))


@pytest.mark.parametrize(
    ('arch', 'depths', 'channels', 'params'),
    [
        ('t', (3, 3, 9, 3), (124, 249, 499, 998), 50_703_838),
        ('s', (3, 3, 27, 3), (124, 249, 499, 998), 91_131_820),
        ('b', (3, 3, 27, 3), (166, 332, 665, 1331), 157_950_792),
        ('l', (3, 3, 27, 3), (249, 499, 998, 1996), 346_624_518),
    ],
)
def test_architectures(arch, depths, channels, params):
    """Widths int(base * 1.3), truncated; strips of the full length also where the map is smaller than they are."""
    net = on_meta(arch=arch, final_norm=True)
    assert net.channels == channels
    assert tuple(len(stage.blocks) for stage in net.stages) == depths
    for stage, width, long in zip(net.stages, channels, (51, 49, 47, 13), strict=True):
        for block in stage.blocks:
            assert isinstance(block.mixer, StripeMixer)
            assert block.mixer.vertical_weight.shape == (width, 1, long, 5)
            assert block.mixer.horizontal_weight.shape == (width, 1, 5, long)
            assert block.mixer.small_weight.shape == (width, 1, 5, 5)
            assert isinstance(block.mixer.small_norm, torch.nn.BatchNorm2d)
            assert block.norm.eps == 1e-6
            assert block.layer_scale.gamma.shape == (width,)
    head = (channels[-1] + 1) * 1000
    assert sum(p.numel() for p in net.parameters()) + head == params


@pytest.mark.parametrize(
    ('kernel_size', 'params'), [((31, 29, 27, 13, 5), 49_581_838), ((61, 59, 57, 13, 5), 51_264_838)]
)
def test_other_kernels(kernel_size, params):
    net = on_meta(arch='t', kernel_size=kernel_size, final_norm=True)
    assert sum(p.numel() for p in net.parameters()) + 999_000 == params


def test_not_decomposed_and_convnext():
    net = on_meta(decompose=False)
    mixer = net.stages[0].blocks[0].mixer
    assert isinstance(mixer, DenseMixer)
    assert (mixer.weight.shape, mixer.small_weight.shape) == ((124, 1, 51, 51), (124, 1, 5, 5))
    # The authors' way to write ConvNeXt: the short edge is larger than the long ones, and may be even.
    for decompose in (True, False):
        net = on_meta(kernel_size=(7, 7, 7, 7, 100), width_factor=1.0, decompose=decompose)
        assert net.channels == (96, 192, 384, 768)
        for stage in net.stages:
            for block in stage.blocks:
                assert [tuple(branch.kernel.shape[2:]) for branch in block.mixer.branches()] == [(7, 7)]
    # Stage by stage.
    net = on_meta(kernel_size=(9, 7, 5, 3, 5))
    assert [type(stage.blocks[0].mixer) for stage in net.stages] == [StripeMixer, StripeMixer, DenseMixer, DenseMixer]


def test_arch_as_mapping_and_overrides():
    net = on_meta(arch=SLaK.arch_zoo['t'] | {'kernel_size': (61, 59, 57, 13, 5)}, base_channels=(32, 64, 128, 256))
    assert net.channels == (41, 83, 166, 332)
    assert net.stages[1].blocks[0].mixer.kernel_size == (59, 59)
    with pytest.raises(
        ValueError, match=r'kernel_size must hold five entries, the long edge of .*got \(51, 49, 47, 13'
    ):
        on_meta(kernel_size=(51, 49, 47, 13))
    with pytest.raises(ValueError, match='kernel_size must have positive odd edges.*got 12'):
        on_meta(kernel_size=(51, 12, 47, 13, 5))
    with pytest.raises(ValueError, match='conv_norm_cfg=None needs decomposed kernels in every stage'):
        on_meta(conv_norm_cfg=None, decompose=False)


@pytest.mark.parametrize('decompose', [True, False])
def test_initialisation(decompose):
    """Truncated normal with std 0.02, the depthwise kernels too."""
    net = SLaK('t', **TINY, decompose=decompose, kernel_size=(13, 11, 9, 7, 5))
    for key, parameter in net.named_parameters():
        if parameter.dim() > 1:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), key
        elif key.endswith('gamma'):
            assert (parameter == 1e-6).all(), key
        elif key.endswith('bias'):
            assert (parameter == 0).all(), key
        else:
            assert (parameter == 1).all(), key


@pytest.mark.parametrize(
    ('kernel_size', 'decompose', 'branches'),
    [
        ((13, 11, 9, 7, 5), True, ('vertical', 'horizontal', 'small')),
        ((13, 11, 9, 7, 5), False, ('', 'small')),
        ((13, 11, 9, 7, 100), True, ('',)),
    ],
    ids=['decomposed', 'dense', 'convnext'],
)
def test_equals_the_block_equations(kernel_size, decompose, branches):
    """The body and the three forms of the large kernel, restated plainly in float64, with the classifier's pooling."""
    net = SLaK('t', **TINY, kernel_size=kernel_size, decompose=decompose, layer_scale_init_value=0.7).double()
    classifier = SLaK('t', **TINY, kernel_size=kernel_size, decompose=decompose, final_norm=True).double().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    for key, buffer in net.named_buffers():
        if key.endswith(('running_mean', 'running_var')):
            buffer.uniform_(0.5, 2)
    net.eval()
    classifier.load_state_dict(net.state_dict(), strict=False)
    x = image = torch.randn(1, 3, 40, 56, dtype=torch.float64)
    p = net.state_dict()

    def layer_norm(y, key):
        mean = y.mean(1, keepdim=True)
        variance = (y - mean).square().mean(1, keepdim=True)
        y = (y - mean) / (variance + 1e-6).sqrt()
        return y * p[f'{key}.weight'][:, None, None] + p[f'{key}.bias'][:, None, None]

    def linear(y, key):
        return torch.einsum('nchw,dc->ndhw', y, p[f'{key}.weight']) + p[f'{key}.bias'][:, None, None]

    def branch(y, mixer, name):
        name = f'{name}_' if name else ''
        weight = p[f'{mixer}.{name}weight']
        height, width = weight.shape[2:]
        y = F.conv2d(y, weight, padding=(height // 2, width // 2), groups=len(weight))
        mean, variance, gain, shift = (
            p[f'{mixer}.{name}norm.{part}'][:, None, None] for part in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return (y - mean) / (variance + 1e-5).sqrt() * gain + shift

    expected = []
    for s in range(4):
        down = f'downsample_layers.{s}'
        if s == 0:
            x = layer_norm(F.conv2d(x, p[f'{down}.0.weight'], p[f'{down}.0.bias'], stride=4), f'{down}.1')
        else:
            x = F.conv2d(layer_norm(x, f'{down}.0'), p[f'{down}.1.weight'], p[f'{down}.1.bias'], stride=2)
        for b in range(len(net.stages[s].blocks)):
            block = f'stages.{s}.blocks.{b}'
            y = sum(branch(x, f'{block}.mixer', name) for name in branches)
            y = linear(layer_norm(y, f'{block}.norm'), f'{block}.ffn.fc1')
            y = linear(y * 0.5 * (1 + torch.erf(y / 2**0.5)), f'{block}.ffn.fc2')
            x = x + p[f'{block}.layer_scale.gamma'][:, None, None] * y
        expected.append(layer_norm(x, f'norm{s}'))
    for actual, wanted in zip(net(image), expected, strict=True):
        assert ((actual - wanted).norm() / wanted.norm()).item() < 1e-12
    vector = F.layer_norm(x.mean((2, 3)), (net.channels[3],), eps=1e-6)
    assert relative_error(classifier(image)[0], vector) < 1e-12


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('form', ['strips', 'dense'])
def test_both_fused_forms(form, dtype):
    """The authors' merge knows only the form that is not decomposed; ours both forms of the released networks."""
    net = randomise(SLaK('t', **TINY, layer_scale_init_value=1.0).to(dtype)).eval()
    x = torch.randn(1, 3, 64, 96, dtype=dtype)
    expected = net(x)
    switch_to_deploy(net, form)
    for actual, wanted in zip(net(x), expected, strict=True):
        assert relative_error(actual, wanted) <= FUSION_NETWORK[dtype]
    built = SLaK('t', **TINY, deploy=form).to(dtype).eval()
    built.load_state_dict(net.state_dict(), strict=True)
    for actual, wanted in zip(built(x), net(x), strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize(
    ('num_layers', 'decay_type', 'name', 'depth'),
    [
        # ADE20K: T with 6 groups, S and B with 12, stage-wise; all down-sampling layers share depth 0.
        (6, 'stage_wise', 'downsample_layers.3.1.weight', 0),
        (6, 'stage_wise', 'stages.3.blocks.2.mixer.small_norm.weight', 4),
        (12, 'stage_wise', 'norm2.weight', 13),
        # COCO: 6 groups, layer-wise.
        (6, 'layer_wise', 'downsample_layers.0.0.weight', 0),
        (6, 'layer_wise', 'stages.0.blocks.1.mixer.vertical_weight', 1),
        (6, 'layer_wise', 'downsample_layers.1.1.weight', 2),
        (6, 'layer_wise', 'stages.1.blocks.1.ffn.fc1.weight', 2),
        (6, 'layer_wise', 'downsample_layers.2.0.weight', 3),
        (6, 'layer_wise', 'stages.2.blocks.5.mixer.horizontal_weight', 4),
        (6, 'layer_wise', 'stages.2.blocks.8.layer_scale.gamma', 5),
        (6, 'layer_wise', 'downsample_layers.3.0.weight', 6),
        (6, 'layer_wise', 'stages.3.blocks.0.norm.bias', 6),
        (6, 'layer_wise', 'norm0.weight', 7),
    ],
)
def test_layer_depth(num_layers, decay_type, name, depth):
    net = on_meta(arch='t')
    assert name in dict(net.named_parameters())
    assert net.get_layer_depth(f'backbone.{name}', 'backbone.', num_layers, decay_type) == (depth, num_layers + 2)

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from numerics import FUSION_NETWORK, randomise, relative_error
from shiftwise_reference import shift_wise_conv

import mmlk  # noqa: F401
from mmlk.checkpoints.key_maps.shiftwise import V1, V2
from mmlk.models import ShiftWiseMixer, ShiftWiseNet, switch_to_deploy

TINY = dict(depths=(1, 1, 2, 1), base_channels=(12, 16, 20, 24), kernel_size=(13, 11, 9, 7, 3))


def on_meta(**arguments) -> ShiftWiseNet:
    with torch.device('meta'):
        return MODELS.build(dict(type='mmlk.ShiftWiseNet', **arguments))


def randomised(**arguments) -> ShiftWiseNet:
    """In float64, every parameter random and large enough that nothing hides behind a small factor."""
    net = randomise(ShiftWiseNet(**TINY | arguments).double()).eval()
    for parameter in net.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.05, 0.4)
    return net


@pytest.mark.parametrize(
    ('arch', 'depths', 'channels', 'convolved'),
    [
        ('v1_t', (3, 3, 9, 3), (96, 192, 384, 768), (74, 148, 296, 592)),
        ('v1_s', (3, 3, 27, 3), (96, 192, 384, 768), (74, 148, 296, 592)),
        ('v1_b', (3, 3, 27, 3), (128, 256, 512, 1024), (99, 198, 395, 789)),
        ('v1_l', (3, 3, 27, 3), (192, 384, 768, 1536), (148, 296, 592, 1183)),
        ('v2_t', (3, 3, 18, 3), (80, 160, 320, 640), (60, 122, 246, 492)),
        ('v2_s', (3, 3, 27, 3), (96, 192, 384, 768), (72, 146, 294, 590)),
        ('v2_b', (3, 3, 27, 3), (128, 256, 512, 1024), (98, 196, 394, 788)),
        ('v2_l', (3, 3, 27, 3), (192, 384, 768, 1536), (146, 294, 590, 1182)),
    ],
)
def test_architectures(arch, depths, channels, convolved):
    net = on_meta(arch=arch)
    assert net.channels == channels
    assert tuple(len(stage.blocks) for stage in net.stages) == depths
    for stage, width, count, edge in zip(net.stages, convolved, (17, 17, 16, 5), (51, 53, 49, 17), strict=True):
        for block in stage.blocks:
            assert isinstance(block.mixer, ShiftWiseMixer)
            assert block.mixer.conv_channels == width
            assert block.mixer.kernel_size == (edge, edge)
            assert [tuple(path.shape) for path in block.mixer.paths] == [(width * count, 1, 3, 3)] * 2


def test_arch_as_mapping_and_overrides():
    net = on_meta(arch=ShiftWiseNet.arch_zoo['v2_t'] | {'kernel_size': (51, 49, 45, 13, 5)}, depths=(1, 1, 1, 1))
    assert net.stages[0].blocks[0].mixer.paths[0].shape[2:] == (5, 5)
    assert on_meta(arch='v2_t', version='v1', width_factor=1.3).channels == (104, 208, 416, 832)
    with pytest.raises(ValueError, match="version must be one of .*got 'v3'"):
        on_meta(version='v3')
    with pytest.raises(ValueError, match='kernel_size must have positive odd edges.*got 12'):
        on_meta(kernel_size=(51, 12, 47, 13, 3))
    with pytest.raises(ValueError, match='conv_norm_cfg must be a BatchNorm for v2'):
        on_meta(conv_norm_cfg=None)


def layer_norm(y, p, key):
    mean = y.mean(1, keepdim=True)
    variance = (y - mean).square().mean(1, keepdim=True)
    y = (y - mean) / (variance + 1e-6).sqrt()
    return y * p[f'{key}.weight'][:, None, None] + p[f'{key}.bias'][:, None, None]


def batch_norm(y, p, key):
    scale = p[f'{key}.weight'] / (p[f'{key}.running_var'] + 1e-5).sqrt()
    return (y - p[f'{key}.running_mean'][:, None, None]) * scale[:, None, None] + p[f'{key}.bias'][:, None, None]


def linear(y, p, key):
    y = torch.einsum('nchw,dc->ndhw', y, p[f'{key}.weight'])
    return y + p[f'{key}.bias'][:, None, None] if f'{key}.bias' in p else y


def gelu(y):
    return y * 0.5 * (1 + torch.erf(y / 2**0.5))


def mixer(x, p, key, length, version):
    norms = [
        lambda y, name=name: batch_norm(y, p, f'{key}.large_kernel.{name}')
        for name in ('bn_lora1', 'bn_lora2', 'bn_small')
    ]
    paths = [p[f'{key}.large_kernel.LoRAs.{i}.weight'] for i in range(2)]
    return shift_wise_conv(x, paths, norms, length, 0.23, 4, version)


def block_v1(x, p, key, length):
    """Facts of the SLaK body: LN, Linear, GELU, Linear, gamma."""
    y = layer_norm(mixer(x, p, key, length, 'v1'), p, f'{key}.norm')
    y = linear(gelu(linear(y, p, f'{key}.pwconv1')), p, f'{key}.pwconv2')
    return x + p[f'{key}.gamma'][:, None, None] * y


def block_v2(x, p, key, length):
    """BN, SE, Linear, GELU, GRN, Linear without bias, BN, gamma."""
    y = batch_norm(mixer(x, p, key, length, 'v2'), p, f'{key}.norm')
    gate = F.relu(F.conv2d(y.mean((2, 3), keepdim=True), p[f'{key}.se.down.weight'], p[f'{key}.se.down.bias']))
    gate = F.conv2d(gate, p[f'{key}.se.up.weight'], p[f'{key}.se.up.bias'])
    y = y / (1 + torch.exp(-gate))
    y = gelu(linear(y, p, f'{key}.pwconv1.1'))
    response = y.square().sum((2, 3), keepdim=True).sqrt()
    response = response / (response.mean(1, keepdim=True) + 1e-6)
    gamma, beta = (p[f'{key}.act.1.{name}'].permute(0, 3, 1, 2) for name in ('gamma', 'beta'))
    y = (gamma * response + 1) * y + beta
    y = batch_norm(linear(y, p, f'{key}.pwconv2.0'), p, f'{key}.pwconv2.2')
    return x + p[f'{key}.gamma'][:, None, None] * y


def downsample_v1(x, p, stage):
    down = f'downsample_layers.{stage}'
    if stage == 0:
        return layer_norm(F.conv2d(x, p[f'{down}.0.weight'], p[f'{down}.0.bias'], stride=4), p, f'{down}.1')
    return F.conv2d(layer_norm(x, p, f'{down}.0'), p[f'{down}.1.weight'], p[f'{down}.1.bias'], stride=2)


def downsample_v2(x, p, stage):
    def conv_norm(x, conv, norm):
        key = f'downsample_layers.{stage}'
        x = F.conv2d(x, p[f'{key}.{conv}.weight'], p[f'{key}.{conv}.bias'], stride=2, padding=1)
        return layer_norm(x, p, f'{key}.{norm}')

    x = conv_norm(x, 0, 1)
    return conv_norm(gelu(x), 3, 4) if stage == 0 else x


@pytest.mark.parametrize(
    ('version', 'table', 'block', 'downsample'),
    [('v1', V1, block_v1, downsample_v1), ('v2', V2, block_v2, downsample_v2)],
)
@pytest.mark.parametrize('final_norm', [False, True])
def test_equals_the_block_equations(version, table, block, downsample, final_norm):
    """The authors' network, restated plainly on a state dict with the authors' names, shifts and all."""
    net = randomised(version=version, layer_scale_init_value=0.7, final_norm=final_norm)
    p = {table.to_theirs(key): value for key, value in net.state_dict().items()}
    x = image = torch.randn(1, 3, 72, 56, dtype=torch.float64)
    expected = []
    for stage in range(4):
        x = downsample(x, p, stage)
        for index in range(TINY['depths'][stage]):
            x = block(x, p, f'stages.{stage}.{index}', TINY['kernel_size'][stage])
        if not final_norm:
            expected.append(layer_norm(x, p, f'norm{stage}'))
    if final_norm:
        expected = [layer_norm(x.mean((2, 3), keepdim=True), p, 'norm').flatten(1)]
    for actual, wanted in zip(net(image), expected, strict=True):
        assert relative_error(actual, wanted) < 1e-10


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('form', ['strips', 'dense'])
@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_fused_forms(version, form, dtype):
    """Maps smaller and larger than the kernels; save, load into a network built in this form."""
    net = randomised(version=version).to(dtype)
    fused = switch_to_deploy(copy.deepcopy(net), form)
    built = ShiftWiseNet(**TINY, version=version, deploy=form).to(dtype).eval()
    built.load_state_dict(fused.state_dict(), strict=True)
    assert not any(name in key for key in fused.state_dict() for name in ('paths', 'horizontal', 'vertical', 'small'))
    for size in [(32, 32), (97, 64), (128, 160)]:
        x = torch.randn(1, 3, *size, dtype=dtype)
        for a, b, c in zip(fused(x), net(x), built(x), strict=True):
            assert relative_error(a, b) <= FUSION_NETWORK[dtype]
            assert torch.equal(a, c)


def test_block_of_v2_keeps_its_norm():
    """It works on convolved channels and ghosts and feeds SE, so no convolution can hold it; the FFN's is folded."""
    net = switch_to_deploy(ShiftWiseNet(**TINY))
    names = {'fc1.weight', 'fc1.bias', 'grn.weight', 'fc2.weight', 'fc2.bias'}
    for stage in net.stages:
        for block in stage.blocks:
            assert isinstance(block.norm, torch.nn.BatchNorm2d)
            assert set(block.ffn.state_dict()) == names


def test_initialisation():
    """Truncated normal of std 0.02 for every convolution and linear layer, the mixers' included; GRN 0."""
    net = ShiftWiseNet('v2_t', depths=(1, 1, 1, 1))
    block = net.stages[2].blocks[0]
    for weight in (*block.mixer.paths, block.ffn.fc1.weight, block.se.fc1.weight, net.downsample_layers[2][0].weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.ffn.grn.weight.abs().sum() == block.ffn.fc1.bias.abs().sum() == 0
    assert block.ffn.layer_scale.gamma.unique().tolist() == pytest.approx([1e-6])


def test_grn_is_decayed():
    """Its parameters have four dimensions in the authors' code, where only vectors go without weight decay."""
    names = dict(on_meta(arch='v2_t').named_parameters())
    assert names['stages.0.blocks.0.ffn.grn.weight'].shape == (1, 1, 1, 320)
    assert names['stages.0.blocks.0.ffn.grn.bias'].shape == (1, 1, 1, 320)


def test_checkpoint_does_not_depend_on_the_generators():
    """Weights of one process give the same output in another, whatever was drawn before."""
    torch.manual_seed(5)
    first = ShiftWiseNet(**TINY).eval()
    torch.manual_seed(6)
    torch.randn(100)
    second = ShiftWiseNet(**TINY).eval()
    second.load_state_dict(first.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(first(x), second(x), strict=True))


@pytest.mark.parametrize(
    ('arch', 'name', 'stage_wise', 'layer_wise'),
    [
        ('v2_t', 'downsample_layers.0.4.weight', 0, 0),
        ('v2_t', 'downsample_layers.1.0.bias', 0, 2),
        ('v2_t', 'downsample_layers.2.1.weight', 0, 3),
        ('v2_t', 'downsample_layers.3.0.weight', 0, 12),
        ('v2_t', 'stages.0.blocks.2.mixer.paths.1', 1, 1),
        ('v2_t', 'stages.1.blocks.0.mixer.horizontal_norm.weight', 2, 2),
        ('v2_t', 'stages.2.blocks.0.se.fc1.weight', 3, 3),
        ('v2_t', 'stages.2.blocks.3.ffn.fc1.weight', 3, 4),
        ('v2_t', 'stages.2.blocks.17.ffn.grn.weight', 3, 8),
        ('v2_t', 'stages.3.blocks.1.ffn.layer_scale.gamma', 4, 12),
        ('v2_t', 'norm0.weight', 13, 13),
        ('v1_s', 'downsample_layers.3.1.weight', 0, 12),
        ('v1_s', 'stages.2.blocks.26.mixer.paths.0', 3, 11),
        ('v1_s', 'stages.3.blocks.1.layer_scale.gamma', 4, 12),
    ],
)
def test_layer_depth(arch, name, stage_wise, layer_wise):
    net = on_meta(arch=arch)
    assert name in dict(net.named_parameters())
    assert net.get_layer_depth(name, num_layers=12, decay_type='stage_wise') == (stage_wise, 14)
    assert net.get_layer_depth(f'backbone.{name}', 'backbone.', num_layers=12) == (layer_wise, 14)


def test_layer_depth_of_the_segmentation_recipe():
    net = on_meta(arch='v2_t')
    assert net.get_layer_depth('stages.3.blocks.0.mixer.paths.0', num_layers=9) == (9, 11)
    assert net.get_layer_depth('stages.2.blocks.17.mixer.paths.0', num_layers=9) == (8, 11)

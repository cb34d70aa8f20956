import copy

import pytest
import torch
from mmengine.registry import MODELS
from numerics import randomise, relative_error
from torch import nn
from torch.nn import functional as F

from mmlk.checkpoints.key_maps.replknet import KEY_MAP
from mmlk.models import DenseMixer, RepLKNet, switch_to_deploy
from mmlk.models.backbones.replknet import ConvFFN, RepLKBlock

TINY = dict(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32), kernel_size=(13, 11, 9, 7))
B, L, XL = ((width, 2 * width, 4 * width, 8 * width) for width in (128, 192, 256))


def on_meta(**arguments) -> RepLKNet:
    with torch.device('meta'):
        return MODELS.build(dict(type='mmlk.RepLKNet', **arguments))


def plain_replknet(weights, x, depths, small_kernel):
    """The blocks in evaluation, restated on the authors' names; the four stage outputs."""

    def bn(y, key):
        w, b, mean, var = (
            weights[f'{key}.{n}'][:, None, None] for n in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (y - mean) / (var + 1e-5).sqrt() * w + b

    def conv_bn(y, key, stride=1):
        w = weights[f'{key}.conv.weight']
        groups = y.shape[1] // w.shape[1]
        return bn(F.conv2d(y, w, None, stride, w.shape[2] // 2, groups=groups), f'{key}.bn')

    def gelu(y):
        return y * 0.5 * (1 + torch.erf(y / 2**0.5))

    for index, stride in enumerate((2, 1, 1, 2)):
        x = conv_bn(x, f'stem.{index}', stride).relu()
    outputs = []
    for stage, depth in enumerate(depths):
        if stage:
            x = conv_bn(x, f'transitions.{stage - 1}.0').relu()
            x = conv_bn(x, f'transitions.{stage - 1}.1', stride=2).relu()
        for pair in range(depth):
            key = f'stages.{stage}.blocks.{2 * pair}'
            y = conv_bn(bn(x, f'{key}.prelkb_bn'), f'{key}.pw1').relu()
            z = conv_bn(y, f'{key}.large_kernel.lkb_origin')
            if small_kernel:
                z = z + conv_bn(y, f'{key}.large_kernel.small_conv')
            x = x + conv_bn(z.relu(), f'{key}.pw2')
            key = f'stages.{stage}.blocks.{2 * pair + 1}'
            x = x + conv_bn(gelu(conv_bn(bn(x, f'{key}.preffn_bn'), f'{key}.pw1')), f'{key}.pw2')
        outputs.append(x)
    if 'norm.weight' in weights:
        return [bn(x, 'norm').mean((2, 3))]
    return [bn(y, f'stages.{s}.norm') if f'stages.{s}.norm.weight' in weights else y for s, y in enumerate(outputs)]


@pytest.mark.parametrize(
    ('arch', 'channels', 'kernels', 'small', 'dw_ratio', 'normed'),
    [
        ('31b', B, (31, 29, 27, 13), 5, 1, False),
        ('31l', L, (31, 29, 27, 13), 5, 1, False),
        ('xl', XL, (27, 27, 27, 13), None, 1.5, True),
        ('31b_k3', B, (3, 3, 3, 3), None, 1, False),
        ('31b_k7', B, (7, 7, 7, 7), 5, 1, False),
        ('31b_k13', B, (13, 13, 13, 13), 5, 1, False),
        ('31b_k25', B, (25, 25, 25, 13), 5, 1, False),
    ],
)
def test_architectures(arch, channels, kernels, small, dw_ratio, normed):
    net = on_meta(arch=arch)
    assert net.channels == channels
    assert [hasattr(net, f'norm{stage}') for stage in range(4)] == [normed] * 4
    for stage, width, kernel, depth in zip(net.stages, channels, kernels, (2, 2, 18, 2), strict=True):
        assert [type(block) for block in stage.blocks] == [RepLKBlock, ConvFFN] * depth
        for block, ffn in zip(stage.blocks[::2], stage.blocks[1::2], strict=True):
            assert isinstance(block.mixer, DenseMixer)
            assert block.mixer.weight.shape == (int(width * dw_ratio), 1, kernel, kernel)
            assert block.mixer.small_kernel == small
            assert ffn.pw1.conv.weight.shape == (4 * width, width, 1, 1)
    # XL's norms of the outputs are for maps; a classifier has its own norm.
    classifier = on_meta(arch=arch, final_norm=True)
    assert classifier.norm.num_features == channels[3]
    assert not hasattr(classifier, 'norm3')


def test_arch_as_mapping_and_overrides():
    fields = RepLKNet.arch_zoo['31l'] | TINY
    net = on_meta(arch=fields, dw_ratio=1.5, ffn_ratio=2, norm_intermediate_features=True)
    block, ffn = net.stages[3].blocks
    assert block.mixer.channels == 48
    assert ffn.pw1.conv.out_channels == 64
    assert net.norm3.num_features == 32
    assert block.mixer.small_kernel == 5
    # None is a value of small_kernel, so it overrides as any other.
    assert on_meta(**TINY, small_kernel=None).stages[0].blocks[0].mixer.small_kernel is None
    assert on_meta(**TINY, small_kernel=3).stages[0].blocks[0].mixer.small_kernel == 3
    assert on_meta(arch='xl', small_kernel=5, norm_intermediate_features=False, out_indices=(1,)).out_indices == (1,)
    with pytest.raises(ValueError, match='small_kernel must not exceed kernel_size 3, got 5'):
        on_meta(arch='31b_k3', small_kernel=5)
    with pytest.raises(
        ValueError, match='norm_intermediate_features=True norms maps, and final_norm=True returns none'
    ):
        on_meta(norm_intermediate_features=True, final_norm=True)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(final_norm=True),
        dict(small_kernel=None, dw_ratio=1.5, norm_intermediate_features=True),
        dict(norm_intermediate_features=True, ffn_ratio=3),
    ],
    ids=['31b', 'classifier', 'xl', 'normed'],
)
@pytest.mark.parametrize('size', [(64, 64), (50, 33)], ids=str)
def test_equals_the_block_equations(options, size):
    """Also on sizes that no stride divides: every layer of stride 2 rounds up."""
    net = randomise(RepLKNet('31b', **TINY, **options).double()).eval()
    weights = {KEY_MAP.to_theirs(key): value for key, value in net.state_dict().items()}
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    outputs = net(image)
    expected = plain_replknet(weights, image, TINY['depths'], options.get('small_kernel', 5))
    for actual, wanted in zip(outputs, expected, strict=True):
        assert relative_error(actual, wanted) < 1e-12
    for actual, wanted in zip(switch_to_deploy(net)(image), expected, strict=True):
        assert relative_error(actual, wanted) < 1e-10
    if 'final_norm' not in options:
        assert [tuple(y.shape[2:]) for y in outputs] == [
            (-(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8, 16, 32)
        ]


def test_classifier_norms_before_it_pools():
    """In training the two orders differ: the statistics are those of the map."""
    net = RepLKNet('31b', **TINY, final_norm=True).train()
    maps = []
    net.stages[3].register_forward_hook(lambda module, inputs, output: maps.append(output.detach()))
    (vector,) = net(torch.randn(2, 3, 64, 64))
    mean, var = maps[0].mean((0, 2, 3), keepdim=True), maps[0].var((0, 2, 3), correction=0, keepdim=True)
    assert torch.allclose(vector, ((maps[0] - mean) / (var + 1e-5).sqrt()).mean((2, 3)), atol=1e-5)
    assert torch.allclose(net.norm.running_mean, 0.1 * mean.flatten(), atol=1e-6)


def test_norms_of_outputs_do_not_change_what_the_next_stage_sees():
    plain = randomise(RepLKNet('31b', **TINY)).eval()
    normed = randomise(RepLKNet('31b', **TINY, norm_intermediate_features=True)).eval()
    found = normed.load_state_dict(plain.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert {key.split('.')[0] for key in found.missing_keys} == {'norm0', 'norm1', 'norm2', 'norm3'}
    x = torch.randn(1, 3, 64, 64)
    for index, (a, b) in enumerate(zip(normed(x), plain(x), strict=True)):
        assert torch.equal(a, getattr(normed, f'norm{index}')(b))
        assert not torch.equal(a, b)


def test_norms_follow_out_indices():
    net = on_meta(**TINY, norm_intermediate_features=True, out_indices=(1, 3))
    assert [name for name, _ in net.named_children() if name.startswith('norm')] == ['norm1', 'norm3']


def test_drop_path_of_the_pairs():
    """24 rates, first 0, last the given one; a RepLK block and the ConvFFN behind it share theirs."""
    net = on_meta(drop_path_rate=0.3)
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for stage in net.stages for block in stage.blocks]
    assert rates[::2] == rates[1::2]
    assert rates[::2] == pytest.approx([0.3 * pair / 23 for pair in range(24)])
    assert isinstance(net.stages[0].blocks[0].drop_path, nn.Identity)
    assert isinstance(net.stages[0].blocks[1].drop_path, nn.Identity)


def test_drop_path_drops_whole_residuals():
    block = RepLKBlock(4, DenseMixer(4, 7, 3), dict(type='BN'), drop_path_rate=0.5).train()
    x = torch.randn(64, 4, 5, 5)
    dropped = (block(x) == x).flatten(1).all(1)
    assert 16 < dropped.sum() < 48


def test_initialised_by_the_framework():
    """No truncated normal: every convolution starts as nn.Conv2d does, uniform in +- 1 / sqrt(fan in)."""
    net = RepLKNet('31b', **TINY)
    weights = {name: p for name, p in net.named_parameters() if p.ndim == 4}
    assert len(weights) == 4 + 3 * 2 + 5 * 4 + 5 * 2
    for weight in weights.values():
        bound = weight[0].numel() ** -0.5
        assert 0.75 * bound < weight.abs().max() <= bound
    for name, parameter in net.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == float(name.endswith('weight'))).all()


def test_checkpointing_covers_the_stem_and_each_block():
    """The stem's first layer and the down-sampling layers behind it are never recomputed, as the authors have it."""
    net = RepLKNet('31b', **TINY, with_cp=True).train()
    counts = {}
    for name, module in net.named_modules():
        if type(module).__name__ in ('ConvNormAct', 'RepLKBlock', 'ConvFFN'):
            module.register_forward_pre_hook(lambda *_, name=name: counts.update({name: counts.get(name, 0) + 1}))
    net(torch.randn(2, 3, 64, 64))[3].sum().backward()
    recomputed = {name for name, count in counts.items() if count == 2 and '.pw' not in name}
    blocks = {f'stages.{stage}.blocks.{b}' for stage, depth in enumerate(TINY['depths']) for b in range(2 * depth)}
    assert recomputed == {f'downsample_layers.0.{layer}' for layer in (1, 2, 3)} | blocks


@pytest.mark.parametrize('arch', ['31b', 'xl'])
def test_fusion_of_the_full_network(arch):
    net = on_meta(arch=arch)
    fused = switch_to_deploy(copy.deepcopy(net))
    built = on_meta(arch=arch, deploy=True)
    shapes = {key: value.shape for key, value in fused.state_dict().items()}
    assert shapes == {key: value.shape for key, value in built.state_dict().items()}
    kernels = [key for key in shapes if '.mixer.' in key]
    assert len(kernels) == 2 * 24
    assert all('.mixer.reparam_convs.0.' in key for key in kernels)


@pytest.mark.parametrize(
    ('name', 'stage_wise', 'layer_wise'),
    [
        ('downsample_layers.0.0.conv.weight', 0, 0),
        ('downsample_layers.0.3.norm.bias', 0, 0),
        ('stages.0.blocks.3.pw1.conv.weight', 1, 1),
        ('downsample_layers.1.0.conv.weight', 1, 1),
        ('stages.1.blocks.0.mixer.weight', 2, 2),
        ('downsample_layers.2.1.norm.weight', 2, 2),
        ('stages.2.blocks.0.mixer.small_weight', 3, 3),
        ('stages.2.blocks.3.ffn_norm.weight', 3, 3),
        ('stages.2.blocks.4.mixer_norm.weight', 3, 4),
        ('stages.2.blocks.34.mixer.norm.bias', 3, 11),
        ('stages.2.blocks.35.pw2.conv.weight', 3, 11),
        ('downsample_layers.3.0.conv.weight', 3, 11),
        ('stages.3.blocks.0.pw2.norm.weight', 4, 12),
        ('norm.weight', 13, 13),
        ('norm2.weight', 13, 13),
    ],
)
def test_layer_depth(name, stage_wise, layer_wise):
    net = on_meta(**TINY)
    for prefix in ('', 'backbone.'):
        assert net.get_layer_depth(prefix + name, prefix, 12, 'stage_wise') == (stage_wise, 14)
        assert net.get_layer_depth(prefix + name, prefix, 12, 'layer_wise') == (layer_wise, 14)
    assert net.get_layer_depth('head.fc.weight', 'backbone.') == (13, 14)


def test_layer_depth_of_deeper_networks_stays_in_range():
    assert on_meta(**TINY).get_layer_depth('stages.2.blocks.99.pw1.conv.weight') == (11, 14)


def test_loads_a_classifier_into_a_backbone_with_output_norms(tmp_path):
    """As XL goes downstream: the classifier's norm and head stay behind, the norms of the outputs start new."""
    classifier = randomise(RepLKNet('31b', **TINY, final_norm=True))
    weights = {f'backbone.{key}': value for key, value in classifier.state_dict().items()}
    torch.save({'state_dict': weights | {'head.fc.weight': torch.zeros(10, 32)}}, tmp_path / 'classifier.pth')
    net = RepLKNet(
        '31b',
        **TINY,
        norm_intermediate_features=True,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth')),
    )
    net.init_weights()
    for key, value in net.state_dict().items():
        if not key.startswith('norm'):
            assert torch.equal(value, classifier.state_dict()[key]), key
    assert (net.norm3.weight == 1).all()

import copy

import plain_unireplknet as plain
import pytest
import torch
from mmengine.registry import MODELS
from numerics import FUSION_BLOCK, randomise, relative_error
from torch import nn

import mmlk  # noqa: F401
from mmlk.checkpoints.key_maps import unireplknet, unireplknet_merged
from mmlk.models import DilatedReparamMixer, LargeKernelConv2d, UniRepLKNet, switch_to_deploy
from mmlk.models.backbones.unireplknet import UniRepLKNetBlock

TINY = dict(depths=(1, 1, 3, 1), channels=(8, 16, 24, 32), kernel_size=(3, 13, (9, 3), 7))
TINY_KERNELS = ((3,), (13,), (9, 3, 9), (7,))

#: arch -> depths, width, kernels of stage 3, parameters of the classifier in train and in merged form, entries of the
#: state dict in both.
VARIANTS = {
    'a': ((2, 2, 6, 2), 40, (13,) * 6, 4_649_060, 4_437_300, 626, 156),
    'f': ((2, 2, 6, 2), 48, (13,) * 6, 6_489_328, 6_235_216, 626, 156),
    'p': ((2, 2, 6, 2), 64, (13,) * 6, 11_080_520, 10_741_704, 626, 156),
    'n': ((2, 2, 8, 2), 80, (13,) * 8, 18_818_880, 18_318_560, 738, 178),
    't': ((3, 3, 18, 3), 80, (13, 3) * 9, 31_693_420, 31_037_980, 1116, 321),
    's': ((3, 3, 27, 3), 96, (13, 3, 3) * 9, 56_456_704, 55_645_984, 1305, 420),
    'b': ((3, 3, 27, 3), 128, (13, 3, 3) * 9, 99_089_416, 98_008_456, 1305, 420),
    'l': ((3, 3, 27, 3), 192, (13, 3, 3) * 9, 220_076_056, 218_454_616, 1305, 420),
    'xl': ((3, 3, 27, 3), 256, (13, 3, 3) * 9, 388_690_984, 386_529_064, 1305, 420),
}


def on_meta(**arguments) -> UniRepLKNet:
    with torch.device('meta'):
        return MODELS.build(dict(type='mmlk.UniRepLKNet', **arguments))


def kernel_of(block) -> int:
    return block.mixer.kernel_size[0]


@pytest.mark.parametrize('arch', VARIANTS)
def test_architectures(arch):
    """Depths, widths, kernels, exact sizes and numbers of state-dict entries of every released network."""
    depths, width, kernels, train_params, merged_params, train_entries, merged_entries = VARIANTS[arch]
    net = on_meta(arch=arch, final_norm=True)
    assert net.channels == (width, 2 * width, 4 * width, 8 * width)
    assert tuple(len(stage.blocks) for stage in net.stages) == depths
    for stage, expected in zip(
        net.stages, ((3,) * depths[0], (13,) * depths[1], kernels, (13,) * depths[3]), strict=True
    ):
        assert tuple(map(kernel_of, stage.blocks)) == expected
        for block in stage.blocks:
            assert type(block.mixer) is (LargeKernelConv2d if kernel_of(block) == 3 else DilatedReparamMixer)
    head = nn.Linear(net.channels[-1], 1000, device='meta')
    for params, entries in ((train_params, train_entries), (merged_params, merged_entries)):
        assert sum(p.numel() for module in (net, head) for p in module.parameters()) == params
        assert len(net.state_dict()) + 2 == entries
        switch_to_deploy(net)
    built = on_meta(arch=arch, final_norm=True, deploy=True)
    assert {key: value.shape for key, value in built.state_dict().items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }


def test_arch_as_mapping_and_overrides():
    fields = UniRepLKNet.arch_zoo['a'] | {'kernel_size': [3, 15, [17, 3, 5], 11]}
    net = on_meta(arch=fields, depths=(1, 2, 4, 1))
    kernels = [tuple(map(kernel_of, stage.blocks)) for stage in net.stages]
    assert kernels == [(3,), (15, 15), (17, 3, 5, 17), (11,)]
    # The paper's kernel ablation: four stages of one K.
    assert all(kernel_of(block) == 13 for s in on_meta(arch='t', kernel_size=(13,) * 4).stages for block in s.blocks)
    with pytest.raises(ValueError, match=r'without dilated_kernels must be one of .* got 19'):
        on_meta(arch='t', kernel_size=(3, 19, 13, 13))
    with pytest.raises(ValueError, match='positive odd edges.*got 0'):
        on_meta(arch='t', kernel_size=(0, 13, 13, 13))
    with pytest.raises(ValueError, match='kernel_size must name at least one kernel per stage'):
        on_meta(arch='t', kernel_size=(3, 13, (), 13))


@pytest.mark.parametrize('training', [False, True], ids=['eval', 'train'])
def test_equals_the_block_equations(training):
    """The whole network against the plain restatement, from a state dict with the authors' names."""
    state = plain.random_state(plain.authors_shapes(TINY['depths'], TINY['channels'], TINY_KERNELS))
    net = UniRepLKNet(**TINY).double().train(training)
    net.load_state_dict({unireplknet.KEY_MAP.to_ours(key): value for key, value in state.items()}, strict=True)
    # Maps larger and smaller than the kernels; odd sizes pass the stride-2 layers too.
    for size in [(112, 112), (50, 75)]:
        image = torch.randn(2, 3, *size, dtype=torch.float64)
        for actual, wanted in zip(net(image), plain.network(state, image, TINY['depths'], training), strict=True):
            assert relative_error(actual, wanted) < 1e-10


def test_gives_the_authors_logits():
    """``final_norm=True`` and a linear head are the authors' classifier."""
    state = plain.random_state(plain.authors_shapes(TINY['depths'], TINY['channels'], TINY_KERNELS, classes=10))
    ours = {unireplknet.KEY_MAP.to_ours(key): value for key, value in state.items()}
    head = nn.Linear(32, 10).double()
    head.load_state_dict({key.removeprefix('head.fc.'): ours.pop(key) for key in ('head.fc.weight', 'head.fc.bias')})
    net = UniRepLKNet(**TINY, final_norm=True).double().eval()
    net.load_state_dict(ours, strict=True)
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    (logits,) = plain.network(state, image, TINY['depths'])
    assert relative_error(head(net(image)[0]), logits) < 1e-10


def test_fused_tensors_are_those_of_the_authors_merge():
    """Kernels, biases, W' = diag(l g / s) W and b' = l (b + (W beta - mu) g / s): tensor by tensor, and the output."""
    state = plain.random_state(plain.authors_shapes(TINY['depths'], TINY['channels'], TINY_KERNELS))
    merged = plain.merge(state)
    shapes = plain.authors_shapes(TINY['depths'], TINY['channels'], TINY_KERNELS, merged=True)
    assert {key: tuple(value.shape) for key, value in merged.items()} == shapes
    merged = {unireplknet_merged.KEY_MAP.to_ours(key): value for key, value in merged.items()}

    net = UniRepLKNet(**TINY).double().eval()
    net.load_state_dict({unireplknet.KEY_MAP.to_ours(key): value for key, value in state.items()}, strict=True)
    fused = switch_to_deploy(copy.deepcopy(net))
    assert set(fused.state_dict()) == set(merged)
    for key, value in fused.state_dict().items():
        assert relative_error(value, merged[key]) < 1e-12, key

    # The authors' merged file, loaded into a network built fused.
    built = UniRepLKNet(**TINY, deploy=True).double().eval()
    built.load_state_dict(merged, strict=True)
    image = torch.randn(1, 3, 96, 64, dtype=torch.float64)
    for actual, wanted in zip(built(image), plain.network(state, image, TINY['depths']), strict=True):
        assert relative_error(actual, wanted) < 1e-10


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('kernel_size', [3, 5, 7, 13, 17])
def test_fused_block(kernel_size, dtype):
    """With large layer scale, GRN offset and norms, so that a forgotten fold shows; 7 x 7 is smaller than K = 13."""
    kernels = (kernel_size, 3, 3, 3)
    net = UniRepLKNet(depths=(1, 1, 1, 1), channels=(16, 8, 8, 8), kernel_size=kernels).to(dtype)
    block = randomise(net.stages[0].blocks[0]).eval()
    assert isinstance(block, UniRepLKNetBlock)
    fused = copy.deepcopy(block)
    fused.switch_to_deploy()
    for size in [(7, 7), (12, 12), (13, 13), (20, 9), (1, 1)]:
        x = torch.randn(2, 16, *size, dtype=dtype)
        assert relative_error(fused(x) - x, block(x) - x) <= FUSION_BLOCK[dtype]
    again = copy.deepcopy(fused)
    again.switch_to_deploy()
    assert torch.equal(again(x), fused(x))
    # One depthwise convolution that keeps its groups and stride, SE, two linear layers, the scale of the GRN.
    (conv,) = (module for module in fused.modules() if isinstance(module, LargeKernelConv2d))
    assert (conv.groups, conv.stride, conv.padding) == (16, (1, 1), (kernel_size // 2,) * 2)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    c, k = 16, kernel_size
    assert sum(p.numel() for p in fused.parameters()) == c * (k * k + 1) + (
        2 * c * (c // 4) + c // 4 + c + 8 * c * c + 5 * c + 4 * c
    )


def test_a_mixer_that_was_fused_alone_still_takes_the_norm():
    net = UniRepLKNet(depths=(1, 1, 1, 1), channels=(16, 8, 8, 8), kernel_size=(7, 3, 3, 3))
    block = randomise(net.stages[0].blocks[0]).double().eval()
    x = torch.randn(1, 16, 9, 9, dtype=torch.float64)
    expected = block(x)
    block.mixer.switch_to_deploy()
    assert relative_error(block(x), expected) < 1e-10
    block.switch_to_deploy()
    assert relative_error(block(x), expected) < 1e-10


def test_train_form_does_not_load_into_a_fused_network():
    with pytest.raises(RuntimeError, match='Unexpected key'):
        UniRepLKNet(**TINY, deploy=True).load_state_dict(UniRepLKNet(**TINY).state_dict())


def test_norm_cfg_reaches_every_batch_norm():
    net = UniRepLKNet(**TINY, norm_cfg=dict(type='BN', eps=1e-3), layer_norm_cfg=dict(type='mmlk.LN2d', eps=1e-4))
    batch_norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    # Two per block and one per branch: none without, K = 13: 6, K = 9: 5, K = 7: 4.
    assert len(batch_norms) == 2 * 6 + (0 + 6 + 5 + 0 + 5 + 4)
    assert {norm.eps for norm in batch_norms} == {1e-3}
    layer_norms = [module for module in net.modules() if isinstance(module, nn.LayerNorm)]
    assert len(layer_norms) == 2 + 3 + 4
    assert {norm.eps for norm in layer_norms} == {1e-4}
    synced = UniRepLKNet(**TINY, norm_cfg=dict(type='SyncBN'))
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in synced.modules()) == len(batch_norms)


def test_grn_parameters_decay_and_start_at_zero():
    """They have four dimensions: the authors' "no weight decay on vectors" does not spare them."""
    ffn = UniRepLKNet(**TINY).stages[1].blocks[0].ffn
    for parameter in (ffn.grn.weight, ffn.grn.bias):
        assert parameter.shape == (1, 1, 1, 64)
        assert not parameter.any()
    assert ffn.layer_scale.gamma.tolist() == [pytest.approx(1e-6)] * 16
    assert ffn.fc2.bias is None


def test_initial_weights():
    """Truncated normal, std 0.02, for every convolution, the branches of the mixers included; biases zero."""
    net = UniRepLKNet('a', depths=(1, 1, 1, 1))
    mixer = net.stages[3].blocks[0].mixer
    block = net.stages[0].blocks[0]
    for weight in (mixer.large_weight, *mixer.dilated_weights.values(), block.ffn.fc1.weight, block.ffn.fc2.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.mixer.weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert not any(m.bias.any() for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None)


@pytest.mark.parametrize(
    ('name', 'layer_wise'),
    [
        ('downsample_layers.0.3.weight', 0),
        ('downsample_layers.1.0.bias', 2),
        ('downsample_layers.2.1.weight', 3),
        ('downsample_layers.3.1.weight', 12),
        ('stages.0.blocks.2.mixer.weight', 1),
        ('stages.1.blocks.0.mixer.dilated_weights.k7_d2', 2),
        ('stages.2.blocks.0.ffn.grn.weight', 3),
        ('stages.2.blocks.2.ffn.fc1.weight', 3),
        ('stages.2.blocks.3.se.fc1.weight', 4),
        ('stages.2.blocks.26.ffn.norm.weight', 11),
        ('stages.3.blocks.1.ffn.layer_scale.gamma', 12),
        ('norm0.weight', 13),
    ],
)
def test_layer_depth(name, layer_wise):
    net = on_meta(arch='s')
    assert name in dict(net.named_parameters())
    assert net.get_layer_depth(f'backbone.{name}', 'backbone.', num_layers=12) == (layer_wise, 14)


def test_layer_depth_of_t():
    """T is fine-tuned with nine groups: the 18 blocks of stage 3 are 3 to 8."""
    net = on_meta(arch='t')
    depths = [net.get_layer_depth(f'stages.2.blocks.{b}.norm.weight', num_layers=9)[0] for b in range(18)]
    assert depths == [3 + b // 3 for b in range(18)]
    assert net.get_layer_depth('stages.3.blocks.0.norm.weight', num_layers=9) == (9, 11)

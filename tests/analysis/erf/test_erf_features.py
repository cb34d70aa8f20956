"""Feature maps of networks of any kind of output."""

import pytest
import torch
from torch import nn

from mmlk.analysis.erf import FeatureMaps, effective_receptive_fields
from mmlk.analysis.erf.features import as_map, find_stages
from mmlk.analysis.erf.recompute import find_blocks
from mmlk.errors import UsageError
from mmlk.models import PeLK

SIZE = (64, 96)


def image(*size):
    return torch.rand(1, 3, *(size or SIZE), generator=torch.Generator().manual_seed(0))


class Returns(nn.Module):
    """Returns what a function makes of a map (1, 8, H / 8, W / 8)."""

    def __init__(self, function):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, stride=8)
        self.function = function

    def forward(self, x):
        return self.function(self.stem(x))


def tokens(x, prefix=0):
    flat = x.flatten(2).transpose(1, 2)
    return torch.cat([flat.mean(1, keepdim=True).repeat(1, prefix, 1), flat], 1)


@pytest.mark.parametrize(
    'function',
    [
        lambda x: x,
        lambda x: (x,),
        lambda x: [{'deep': [(x,)]}],
        lambda x: {'map': x, 'pooled': x.mean((2, 3))},
        lambda x: (x, x.mean((2, 3), keepdim=True)),
        lambda x: x.permute(0, 2, 3, 1),
        tokens,
        lambda x: tokens(x, 1),
        lambda x: tokens(x, 5),
    ],
    ids=['map', 'tuple', 'nested', 'dict', 'pooled', 'channels last', 'tokens', 'class token', 'five tokens'],
)
def test_outputs(function):
    network = Returns(function)
    (found,) = FeatureMaps(network)(image())
    assert torch.equal(found, network.stem(image()))


@pytest.mark.parametrize('size', [(64, 64), (56, 80), (61, 90), (35, 36)])
def test_sizes_that_the_stride_does_not_divide(size):
    for layout in (lambda x: x, lambda x: x.permute(0, 2, 3, 1)):
        (found,) = FeatureMaps(Returns(layout))(image(*size))
        assert tuple(found.shape) == (1, 8, size[0] // 8, size[1] // 8)


def test_channels_first_where_both_fit():
    square = torch.rand(1, 8, 8, 8)
    assert as_map(square, (64, 64)) is square


@pytest.mark.parametrize('function', [lambda x: x.mean((2, 3)), lambda x: None, lambda x: x.mean((2, 3), keepdim=True)])
def test_no_map(function):
    with pytest.raises(UsageError, match='needs a network with a feature map, Returns returned'):
        FeatureMaps(Returns(function))(image())


class Staged(nn.Module):
    """A network whose output is a vector, with stages under the names of the hosts' ResNets."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 2, stride=2)
        self.layer1 = nn.Conv2d(4, 4, 2, stride=2)
        self.layer2 = nn.Conv2d(4, 4, 2, stride=2)

    def forward(self, x):
        return self.layer2(self.layer1(self.stem(x))).mean((2, 3))


def test_stages_by_name():
    network = Staged()
    assert find_stages(network) == [network.layer1, network.layer2]
    assert [tuple(found.shape[2:]) for found in FeatureMaps(network)(image())] == [(16, 24), (8, 12)]
    # No hook is left behind.
    assert not network.layer1._forward_hooks


def test_of_ours_before_the_norm_of_the_output():
    network = PeLK(
        arch='t', depths=(1, 1, 1, 1), width_factor=0.0834, kernel_size=(9, 9, 7, 7), out_indices=(3,)
    ).eval()
    seen = []
    network.stages[3].register_forward_hook(lambda module, inputs, output: seen.append(output))
    maps = FeatureMaps(network)(image())
    assert len(maps) == 4
    assert torch.equal(maps[3], seen[0])
    assert not torch.equal(maps[3], network(image())[0])


def test_blocks():
    network = PeLK(arch='t', depths=(2, 1, 1, 1), width_factor=0.0834, kernel_size=(9, 9, 7, 7))
    assert find_blocks(network) == [block for stage in network.stages for block in stage.blocks]
    # Nothing but single layers is not worth it.
    assert find_blocks(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())) == []


def host_backbones():
    import mmdet.models  # noqa: F401
    import mmpretrain.models  # noqa: F401
    import mmseg.models  # noqa: F401

    vit = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
    return {
        'mmpretrain ViT': dict(type='mmpretrain.VisionTransformer', arch=vit, img_size=64, patch_size=16),
        'mmpretrain ConvNeXt': dict(
            type='mmpretrain.ConvNeXt',
            arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 8]),
            gap_before_final_norm=True,
        ),
        'mmseg Swin': dict(
            type='mmseg.SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=2
        ),
        'mmdet MobileNetV2': dict(type='mmdet.MobileNetV2', widen_factor=0.1, out_indices=(1, 2, 4, 7)),
        'mmseg ResNet': dict(type='mmseg.ResNetV1c', depth=18, base_channels=8, out_indices=(3,)),
    }


@pytest.mark.parametrize(
    ('name', 'strides'),
    [
        ('mmpretrain ViT', [16]),
        ('mmpretrain ConvNeXt', [4, 8, 16, 32]),
        ('mmseg Swin', [4, 8, 16, 32]),
        ('mmdet MobileNetV2', [4, 8, 16, 32]),
        ('mmseg ResNet', [4, 8, 16, 32]),
    ],
)
def test_backbones_of_the_hosts(name, strides):
    from mmengine.registry import MODELS

    network = MODELS.build(host_backbones()[name])
    network.init_weights()
    fields = effective_receptive_fields(network, [image(64, 64)], None)
    assert [64 // erf.map_size[0] for erf in fields] == strides
    assert network.training


@pytest.mark.parametrize(
    ('name', 'strides'),
    [('resnet10t', [4, 8, 16, 32]), ('test_vit', [16] * 3), ('test_efficientnet', [2, 4, 8, 16, 32])],
)
def test_backbones_of_timm(name, strides):
    from mmlk.cli.backbones import backbone_of_timm

    network = backbone_of_timm(name, (64, 64)).network
    maps = FeatureMaps(network)(image(64, 64))
    assert [64 // found.shape[2] for found in maps] == strides

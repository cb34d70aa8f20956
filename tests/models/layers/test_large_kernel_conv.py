import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from numerics import assert_close
from torch import nn

import mmlk  # noqa: F401
from mmlk.models import LargeKernelConv2d
from mmlk.ops import depthwise_conv2d


@pytest.mark.parametrize('kernel_size', [7, (5, 51)], ids=str)
@pytest.mark.parametrize('bias', [True, False])
def test_state_dict_and_result_of_nn_conv2d(kernel_size, bias):
    edges = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    plain = nn.Conv2d(4, 4, kernel_size, padding=tuple(k // 2 for k in edges), groups=4, bias=bias)
    ours = LargeKernelConv2d(4, 4, kernel_size, bias=bias)
    assert ours.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(2, 4, 12, 10)
    assert_close(ours(x), plain(x))
    assert torch.equal(ours(x), depthwise_conv2d(x, ours.weight, ours.bias))


def test_from_config_and_in_conv_module():
    layer = MODELS.build(dict(type='mmlk.LargeKernelConv2d', in_channels=6, out_channels=6, kernel_size=31))
    assert isinstance(layer, LargeKernelConv2d)
    module = ConvModule(
        6, 6, 31, padding=15, groups=6, conv_cfg=dict(type='mmlk.LargeKernelConv2d'), norm_cfg=dict(type='BN')
    )
    assert isinstance(module.conv, LargeKernelConv2d)
    assert module(torch.randn(2, 6, 9, 9)).shape == (2, 6, 9, 9)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(stride=2), r'stride .* must be \(1, 1\), got \(2, 2\)'),
        (dict(dilation=2), r'dilation .* must be \(1, 1\), got \(2, 2\)'),
        (dict(groups=2), r'groups .* must be 4, got 2'),
        (dict(out_channels=8), r'out_channels .* must be 4, got 8'),
        (dict(padding=1), r'padding .* must be \(3, 3\), got \(1, 1\)'),
        (dict(padding_mode='reflect'), r'padding_mode .* must be zeros, got reflect'),
        (dict(kernel_size=8), r'kernel_size must have positive odd edges.*got 8 x 8'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_what_it_cannot_do_raises(change, message):
    arguments = dict(in_channels=4, out_channels=4, kernel_size=7) | change
    with pytest.raises(ValueError, match=message):
        LargeKernelConv2d(**arguments)


def test_conv_module_with_default_groups_raises():
    with pytest.raises(ValueError, match=r'groups .* must be 6, got 1'):
        ConvModule(6, 6, 31, padding=15, conv_cfg=dict(type='mmlk.LargeKernelConv2d'))

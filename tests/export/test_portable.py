"""The portable copy computes what the model computes, with PyTorch's own layers."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from numerics import FUSION_NETWORK, assert_close, randomise, relative_error
from torch import nn
from torch.nn.utils import parametrizations

from mmlk.export import make_portable
from mmlk.export.portable import MatrixAveragePool2d, replace_adaptive_pooling
from mmlk.models import BaseMixer
from mmlk.nn import LargeKernelConv2d
from mmlk.ops.depthwise_conv2d import dispatcher

FAMILIES = ['PeLK', 'RepLKNet', 'SLaK', 'ShiftWiseNet', 'UniRepLKNet']


@pytest.mark.parametrize('family', FAMILIES)
def test_runs_no_op_of_this_package(build, family):
    model = build('classification', family).double()
    keys = set(model.state_dict())
    portable = make_portable(model)
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad(), dispatcher.record() as calls:
        y = portable(x, mode='tensor')
    assert calls == []
    assert not any(isinstance(module, LargeKernelConv2d) for module in portable.modules())
    with torch.no_grad(), dispatcher.record():
        assert relative_error(y, model(x, mode='tensor')) <= FUSION_NETWORK[torch.float64]
    assert set(model.state_dict()) == keys
    assert all(not mixer.deployed for mixer in model.modules() if isinstance(mixer, BaseMixer))
    assert not any(parameter.requires_grad for parameter in portable.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_keeps_names_and_weights_of_convolutions():
    model = nn.Sequential(LargeKernelConv2d(4, 4, (5, 3), backend='cpu'), nn.Conv2d(4, 2, 1)).eval()
    portable = make_portable(model)
    assert type(portable[0]) is nn.Conv2d and type(model[0]) is LargeKernelConv2d
    assert 'backend' not in vars(portable[0])
    for key, value in model.state_dict().items():
        assert torch.equal(portable.state_dict()[key], value)
    x = torch.randn(2, 4, 9, 7)
    assert_close(portable(x), model(x))


def test_parametrised_convolution():
    conv = LargeKernelConv2d(4, 4, 5)
    parametrizations.weight_norm(conv)
    x = torch.randn(1, 4, 6, 6)
    expected = conv(x).detach()
    portable = make_portable(nn.Sequential(conv))
    assert type(portable[0]) is nn.Conv2d and set(dict(portable.named_parameters())) == {'0.weight', '0.bias'}
    assert_close(portable(x), expected)


def test_form(build):
    model = MODELS.build(dict(type='mmlk.ShiftWiseMixer', channels=8, kernel_size=9))
    randomise(model).eval()
    assert [conv.kernel_size for conv in make_portable(model).reparam_convs] == [(9, 3), (3, 9)]
    assert [conv.kernel_size for conv in make_portable(model, 'dense').reparam_convs] == [(9, 9)]
    with pytest.raises(ValueError, match="form must be one of .* got 'round'"):
        make_portable(model, 'round')


@pytest.mark.parametrize('size', [(1, 1), (6, 6), (3, 2), (5, 7), (6, None), (None, 3)])
@pytest.mark.parametrize('shape', [(2, 3, 8, 8), (1, 2, 7, 13), (1, 1, 2, 3)])
def test_pooling_by_matrices(size, shape):
    x = torch.randn(shape, dtype=torch.float64)
    assert_close(MatrixAveragePool2d(size)(x), nn.AdaptiveAvgPool2d(size)(x))


def test_pooling_hand_computed():
    # Rows 0 to 1 and 1 to 2 of three: the middle one counts twice.
    x = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 1, 3, 1)
    assert MatrixAveragePool2d((2, 1))(x).flatten().tolist() == [1.5, 4.0]


def test_pooling_to_more_than_one_cell_is_replaced():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.AdaptiveAvgPool2d(2)), nn.AdaptiveAvgPool2d((1, 3)))
    before = copy.deepcopy(model)
    replace_adaptive_pooling(model)
    kinds = [type(module) for module in model.modules() if not isinstance(module, nn.Sequential)]
    assert kinds == [nn.AdaptiveAvgPool2d, MatrixAveragePool2d, MatrixAveragePool2d]
    x = torch.randn(1, 1, 5, 5)
    assert_close(model[1](x), before[1](x))
    assert_close(model[2](x), before[2](x))

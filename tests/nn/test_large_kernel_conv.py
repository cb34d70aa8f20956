"""What ``nn.Conv2d`` does, ours does: state dict, description, copies, shapes of input, compilation."""

import copy

import pytest
import torch
from numerics import assert_close
from torch import nn

from mmlk.nn import LargeKernelConv2d


def pair(**options):
    plain = nn.Conv2d(4, 4, (5, 11), padding=(2, 5), groups=4, **options)
    ours = LargeKernelConv2d(4, 4, (5, 11), **options)
    return plain, ours


@pytest.mark.parametrize('bias', [True, False])
def test_state_dict_fits_both_ways(bias):
    plain, ours = pair(bias=bias)
    assert list(plain.state_dict()) == list(ours.state_dict())
    x = torch.randn(2, 4, 9, 8)
    ours.load_state_dict(plain.state_dict())
    assert_close(ours(x), plain(x))
    other = LargeKernelConv2d(4, 4, (5, 11), bias=bias)
    plain.load_state_dict(other.state_dict())
    assert_close(plain(x), other(x))


def test_described_as_nn_conv2d_is():
    plain, ours = pair()
    assert repr(ours) == 'LargeKernel' + repr(plain)
    assert repr(LargeKernelConv2d(4, 4, 7, backend='reference')).endswith("backend='reference')")


def test_initialised_as_nn_conv2d_is():
    torch.manual_seed(3)
    plain, _ = pair()
    torch.manual_seed(3)
    ours = LargeKernelConv2d(4, 4, (5, 11))
    assert torch.equal(plain.weight, ours.weight)
    assert torch.equal(plain.bias, ours.bias)


def test_a_copy_is_independent():
    layer = LargeKernelConv2d(2, 2, 7, backend='reference')
    twin = copy.deepcopy(layer)
    assert type(twin) is LargeKernelConv2d
    assert twin.backend == 'reference'
    x = torch.randn(1, 2, 8, 8)
    before = layer(x)
    with torch.no_grad():
        twin.weight.zero_()
    assert torch.equal(layer(x), before)


def test_one_image_without_a_batch_axis():
    plain, ours = pair()
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(4, 9, 8)
    assert_close(ours(x), plain(x))


def test_weights_from_outside_go_through_the_op(ran):
    """Code that folds a BatchNorm on the fly calls ``_conv_forward`` with its own weights."""
    plain, ours = pair()
    x, weight, bias = torch.randn(2, 4, 9, 8), torch.randn(4, 1, 5, 11), torch.randn(4)
    assert_close(ours._conv_forward(x, weight, bias), plain._conv_forward(x, weight, bias))
    assert ran == [(4, 1, 5, 11)]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_compiles_in_one_graph(dtype):
    plain, ours = pair(dtype=dtype)
    ours.load_state_dict(plain.state_dict())
    compiled = torch.compile(ours, fullgraph=True, backend='aot_eager')
    x = torch.randn(2, 4, 9, 8, dtype=dtype)
    cotangent = torch.randn_like(x)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    for layer, source in zip((plain, compiled), inputs, strict=True):
        layer(source).backward(cotangent)
    assert_close(compiled(x), plain(x))
    assert_close(inputs[1].grad, inputs[0].grad)
    assert_close(ours.weight.grad, plain.weight.grad)
    assert_close(ours.bias.grad, plain.bias.grad)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(kernel_size=()), 'kernel_size must be an integer or two, got'),
        (dict(kernel_size=(3, 3, 3)), 'kernel_size must be an integer or two, got'),
        (dict(kernel_size='5'), 'kernel_size must be an integer or two, got'),
        (dict(kernel_size=2.5), 'kernel_size must be an integer or two, got'),
        (dict(dtype=torch.int32), 'dtype must be float16, bfloat16, float32 or float64, got torch.int32'),
        (dict(dtype='float32'), "dtype must be float16, .* got 'float32'"),
        (dict(device='graphics'), "device must be a torch.device or its name, such as 'cpu', got 'graphics'"),
        (dict(device=2.5), 'device must be a torch.device or its name'),
    ],
)
def test_arguments_of_another_kind(arguments, message):
    with pytest.raises(ValueError, match=f'^{message}'):
        LargeKernelConv2d(**(dict(in_channels=4, out_channels=4, kernel_size=5) | arguments))


@pytest.mark.parametrize('x', [None, [[1.0]], 'x', torch.ones(4), torch.ones(1, 1, 4, 6, 6)])
def test_what_is_no_map(x):
    with pytest.raises((TypeError, ValueError), match='^x must '):
        LargeKernelConv2d(4, 4, 5)(x)

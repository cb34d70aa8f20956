"""Tensors that are no dense ones, and other arguments that end in one sentence; see also tests/hostile."""

import pytest
import torch
from torch import nn

from mmlk.ops import default_backend, depthwise_conv2d, explain, peripheral_conv2d
from mmlk.ops.checks import MAX_EXPANDED

X, WEIGHT = torch.ones(1, 2, 3, 3), torch.ones(2, 1, 3, 3)


def freed(tensor):
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(0)
    return tensor


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (torch.Tensor.to_sparse, TypeError, r'must be a dense tensor \(torch.strided\), got torch.sparse_coo'),
        (torch.Tensor.to_mkldnn, TypeError, 'must be a dense tensor .* got torch._mkldnn'),
        (lambda tensor: torch.nested.nested_tensor(list(tensor)), TypeError, 'must be one tensor, got a nested one'),
        (lambda tensor: nn.UninitializedParameter(), TypeError, 'is not initialised yet'),
        (lambda tensor: tensor.refine_names(*'CDRS'), TypeError, 'must not have named dimensions'),
        (freed, ValueError, 'has no memory left'),
    ],
    ids=['sparse', 'oneDNN', 'nested', 'lazy', 'named', 'freed'],
)
@pytest.mark.filterwarnings('ignore:.*(nested tensors|Named tensors).*')
def test_tensors_of_another_kind(change, error, message):
    tensor = change(WEIGHT)
    with pytest.raises(error, match=f'^weight {message}'):
        depthwise_conv2d(X, tensor)
    with pytest.raises(error, match=f'^weight {message}'):
        peripheral_conv2d(X, tensor, (1, 1, 1))


@pytest.mark.filterwarnings('ignore:.*MaskedTensor.*')
def test_masked_tensors():
    masked = torch.masked.masked_tensor(X, torch.ones_like(X, dtype=torch.bool))
    with pytest.raises(TypeError, match=r'x must be a plain tensor, got a MaskedTensor: give x.to_tensor\(0\)'):
        depthwise_conv2d(masked, WEIGHT)


def test_tensors_of_inference_mode():
    with torch.inference_mode():
        x = X.clone()
    assert torch.equal(depthwise_conv2d(x, WEIGHT), depthwise_conv2d(X, WEIGHT))
    with pytest.raises(RuntimeError, match='x was made in inference mode .* give x.clone()'):
        depthwise_conv2d(x, WEIGHT.clone().requires_grad_())
    with pytest.raises(RuntimeError, match='weight was made in inference mode'):
        depthwise_conv2d(X.clone().requires_grad_(), x.reshape(2, 1, 3, 3))


@pytest.mark.parametrize('backend', [None, 'reference', 'cpu'])
def test_no_channels(backend):
    """As after cutting all channels of a layer; F.conv2d refuses it."""
    x, weight, bias = X[:, :0].clone(), WEIGHT[:0].clone(), torch.ones(0)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    for y in (
        depthwise_conv2d(*leaves, backend=backend),
        peripheral_conv2d(x, weight, (2, 1, 2), bias, backend=backend),
    ):
        assert y.shape == x.shape
        assert [grad.shape for grad in torch.autograd.grad(y.sum(), leaves)] == [leaf.shape for leaf in leaves]


@pytest.mark.parametrize('backend', [3, b'cpu', ['cpu'], 'CPU', ''])
def test_no_such_backend(backend):
    with pytest.raises(ValueError, match='^backend must be None or one of'):
        depthwise_conv2d(X, WEIGHT, backend=backend)
    with pytest.raises(ValueError, match='^backend must be None or one of'):
        explain(X, WEIGHT, backend=backend)
    with pytest.raises(ValueError, match='^name must be None or one of'), default_backend(backend):
        pass


@pytest.mark.parametrize('grid', [None, 3, 'abc', 2.5, torch.ones(3), iter((1, 1, 1))])
def test_grid_that_is_no_sequence(grid):
    with pytest.raises(TypeError, match='^sharing_grid must be a tuple or a list of positive integers, got'):
        peripheral_conv2d(X, WEIGHT, grid)


@pytest.mark.parametrize('grid', [(True, True, True), (1.0, 1.0, 1.0), ('1', '1', '1'), (None,) * 3, (0, 1, 0), ()])
def test_grid_of_other_things(grid):
    with pytest.raises(ValueError, match='^sharing_grid must hold positive integers, got'):
        peripheral_conv2d(X, WEIGHT, grid)


def test_grid_that_would_fill_the_memory():
    with pytest.raises(ValueError, match=f'must add up to at most {MAX_EXPANDED} taps, got {2**40 + 1}'):
        peripheral_conv2d(X, WEIGHT, (2**39, 1, 2**39))

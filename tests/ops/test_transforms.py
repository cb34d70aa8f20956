"""torch.func and forward-mode differentiation: right, on the reference, and never silently zero."""

import pytest
import torch
from numerics import assert_close
from torch.autograd import forward_ad

from mmlk.ops import depthwise_conv2d, peripheral_conv2d
from mmlk.ops.depthwise_conv2d import dispatcher

GRID = (2, 3, 2)


def ours(x, weight, backend=None):
    return depthwise_conv2d(x, weight, backend=backend)


def shared(x, weight, backend=None):
    return peripheral_conv2d(x, weight, GRID, backend=backend)


@pytest.fixture(params=[ours, shared])
def case(request):
    edges = (3, 3) if request.param is shared else (7, 5)
    return request.param, torch.randn(2, 4, 9, 8, dtype=torch.float64), torch.randn(4, 1, *edges, dtype=torch.float64)


def test_forward_mode(case):
    """The op is linear in the map: its derivative along a tangent is the op of the tangent."""
    op, x, weight = case
    tangent = torch.randn_like(x)
    assert_close(torch.func.jvp(lambda x: op(x, weight), (x,), (tangent,))[1], op(tangent, weight))
    with forward_ad.dual_level():
        dual = op(forward_ad.make_dual(x, tangent), weight)
        assert_close(forward_ad.unpack_dual(dual).tangent, op(tangent, weight))


def test_gradients_and_batches(case):
    op, x, weight = case
    leaf = weight.clone().requires_grad_()
    (expected,) = torch.autograd.grad(op(x, leaf).square().sum(), leaf)
    assert_close(torch.func.grad(lambda weight: op(x, weight).square().sum())(weight), expected)
    per_image = torch.func.vmap(torch.func.grad(lambda weight, x: op(x[None], weight).square().sum()), (None, 0))
    assert_close(per_image(weight, x).sum(0), expected)
    with dispatcher.record() as calls:
        assert_close(torch.func.vmap(lambda x: op(x[None], weight)[0])(x), op(x, weight))
    assert {name for _, name in calls} <= {'cpu', 'reference'}


def test_forced_backends_say_that_they_have_no_rule(case):
    op, x, weight = case
    for backend in ('cpu', 'cpu/fft'):
        with pytest.raises(RuntimeError, match=f"backend '{backend}' has no rule for torch.func and forward-mode"):
            torch.func.jvp(lambda x, backend=backend: op(x, weight, backend), (x,), (x,))
    assert_close(torch.func.vmap(lambda x: op(x[None], weight, 'reference')[0])(x), op(x, weight))

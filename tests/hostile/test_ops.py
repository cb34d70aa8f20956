"""A slice of the campaign on arguments of the ops, its committed result, and properties of valid calls."""

import pytest
import torch
from hostile.op_arguments import CAMPAIGN
from hostile.op_calls import BACKENDS, PERIPHERAL_BACKENDS, Call, check_forward, check_gradients
from hostile.slices import assert_committed, assert_slice
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import TOLERANCE

#: Drawn alike in every run, so that a failure is a change of the code and not of the draw.
QUIET = settings(max_examples=60, deadline=None, derandomize=True, database=None)

size = st.integers(1, 24)
odd = st.integers(0, 12).map(lambda half: 2 * half + 1)
dtype = st.sampled_from(list(TOLERANCE))
groups = st.lists(st.integers(1, 5), min_size=0, max_size=3)


@st.composite
def depthwise_calls(draw):
    n, c, h, w, kind = draw(st.integers(0, 3)), draw(st.integers(1, 9)), draw(size), draw(size), draw(dtype)
    torch.manual_seed(draw(st.integers(0, 2**31)))
    bias = torch.randn(c, dtype=kind) if draw(st.booleans()) else None
    weight = torch.randn(c, 1, draw(odd), draw(odd), dtype=kind)
    return Call(torch.randn(n, c, h, w, dtype=kind), weight, bias, draw(st.sampled_from(BACKENDS)))


@st.composite
def peripheral_calls(draw):
    call, half = draw(depthwise_calls()), draw(groups)
    grid = (*half, draw(st.sampled_from((1, 3, 5))), *reversed(half))
    weight = torch.randn(call.x.shape[1], 1, len(grid), len(grid), dtype=call.x.dtype)
    names = [name for name in PERIPHERAL_BACKENDS if name != 'shared/cpu' or call.x.numel()]
    return Call(call.x, weight, call.bias, draw(st.sampled_from(names)), grid, True)


@QUIET
@given(call=st.one_of(depthwise_calls(), peripheral_calls()))
def test_a_valid_call_equals_the_equation(call):
    call = call.mapped(lambda tensor: tensor.requires_grad_())
    y = call()
    check_forward(call, y)
    if call.backend != 'cpu/channels_last':
        # Its weight gradient has limits, and says so; see the campaign.
        check_gradients(call, y, torch.randn_like(y))


@QUIET
@given(call=depthwise_calls(), edge=st.integers(1, 12).map(lambda half: 2 * half), axis=st.sampled_from((2, 3)))
def test_an_even_kernel_is_refused_by_name(call, edge, axis):
    shape = [*call.weight.shape]
    shape[axis] = edge
    with pytest.raises(ValueError, match='^the kernel of weight must have positive odd edges, .* got '):
        call.changed(weight=call.weight.new_ones(shape))()


@QUIET
@given(call=depthwise_calls(), more=st.integers(1, 5))
def test_other_channels_are_refused_by_name(call, more):
    with pytest.raises(ValueError, match=r'^weight must have one kernel per channel of x \(\d+\), got \d+ kernels$'):
        call.changed(weight=call.weight.new_ones(call.x.shape[1] + more, 1, 3, 3))()


def test_slice():
    assert_slice(CAMPAIGN, 96)


def test_committed_result():
    assert_committed(CAMPAIGN, 1000)

"""The check before a time is printed: it passes what is right and catches what is wrong, wherever it is wrong."""

import math

import numerics
import pytest
import torch
from ops.cases import CASES, case_id

from mmlk.benchmarks.accuracy import TOLERANCE, Expectation, tolerance
from mmlk.ops.depthwise_conv2d import reference

TIMED = [case for case in CASES if case[0]]


def compute(case, dtype=torch.float64):
    n, c, h, w, r, s = case
    x, grad = torch.randn(2, n, c, h, w, dtype=dtype)
    weight = torch.randn(c, 1, r, s, dtype=dtype)
    results = {
        'y': reference.forward(x, weight, None),
        'dx': reference.grad_input(grad, x, weight),
        'dw': reference.grad_weight(grad, x, weight),
    }
    return Expectation(x, weight, grad), results


def test_tolerances_are_those_of_the_tests():
    assert TOLERANCE == numerics.TOLERANCE


def test_long_sums_may_err_more():
    assert tolerance(torch.float32, 100) == 2e-6
    assert tolerance(torch.float32, 40_000) == pytest.approx(4e-6)
    assert tolerance(torch.bfloat16, 40_000) == pytest.approx(1.6e-2 + 2e-6)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('case', TIMED, ids=case_id)
def test_right_results_pass(case, dtype):
    expectation, results = compute(case, dtype)
    for name, result in results.items():
        assert expectation.error(name, result) <= expectation.tolerances[name], name


@pytest.mark.parametrize('name', ['y', 'dx', 'dw'])
@pytest.mark.parametrize('case', TIMED, ids=case_id)
def test_wrong_results_do_not(case, name):
    expectation, results = compute(case)
    result = results[name]
    limit = expectation.tolerances[name]
    broken = {'scaled': result * (1 + 1e-9), 'nan': result.clone()}
    broken['nan'].view(-1)[-1] = math.nan
    if case[1] > 2:
        # A channel that is not among those whose whole planes are compared, and channels in another order.
        dim = 0 if name == 'dw' else 1
        broken['one channel'] = result.clone()
        broken['one channel'].select(dim, 1).mul_(1.001)
        broken['rolled channels'] = result.roll(1, dim)
    if result.shape[2] > 1 and result.shape[3] > 1:
        broken['shifted'] = result.roll((1, 1), (2, 3))
        # Of a single pixel only the centre tap has a gradient, which a flip leaves where it is.
        if case[2:4] != (1, 1):
            broken['flipped'] = result.flip(2, 3)
        # One pixel of a whole plane.
        broken['one pixel'] = result.clone()
        broken['one pixel'][0, 0, -1, -2] += 1e-3
    if name == 'dw' and case[4:] == (51, 51):
        # Taps that never meet the map have no gradient.
        assert expectation.error(name, result.clone().index_fill_(2, torch.tensor([0]), 1e-3)) > limit
    for what, wrong in broken.items():
        assert not expectation.error(name, wrong) <= limit, what

"""The check before a time is printed: it passes what is right and catches what is wrong, wherever it is wrong."""

import math

import numerics
import pytest
import torch
from ops.cases import CASES, case_id

from mmlk.benchmarks.accuracy import TOLERANCE, Expectation, tolerance
from mmlk.ops.depthwise_conv2d import reference
from mmlk.ops.peripheral_conv2d import dense

TIMED = [case for case in CASES if case[0]]

#: N, C, H, W and a sharing grid: not symmetric, wider than the map, of an even number of groups.
SHARED = [((2, 3, 12, 9), (4, 1, 2)), ((3, 4, 5, 8), (7, 2, 1, 1, 1, 2, 7)), ((1, 2, 1, 1), (3, 1, 2, 1))]


def shared_id(case):
    return f'{"x".join(map(str, case[0]))}-{"_".join(map(str, case[1]))}'


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


def compute_shared(case, dtype=torch.float64):
    shape, grid = case
    x, grad = torch.randn(2, *shape, dtype=dtype)
    weight = torch.randn(shape[1], 1, len(grid), len(grid), dtype=dtype)
    results = {
        'y': dense.forward(x, weight, None, grid),
        'dx': dense.grad_input(grad, x, weight, grid),
        'dw': dense.grad_weight(grad, x, weight, grid),
    }
    return Expectation(x, weight, grad, grid), results


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


class TestSharingGrid:
    def test_by_hand(self):
        """Three groups of one row: the taps -2 -1 | 0 | 1 2 share the parameters 2, 3 and 5."""
        x = torch.tensor([[[[1.0, 10.0, 100.0]]]], dtype=torch.float64)
        weight = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64).diag()[None, None]
        expectation = Expectation(x, weight, torch.ones_like(x), (2, 1, 2))
        # Of the rows only the middle group meets the map, and there only the middle column is not zero.
        y = 3 * x
        dw = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
        # Sums over the positions of what lies left of, at and right of them: 0 + 1 + 11, 111, 110 + 100 + 0.
        dw[0, 0, 1] = torch.tensor([12.0, 111.0, 210.0])
        for name, result in (('y', y), ('dx', torch.full_like(x, 3.0)), ('dw', dw)):
            assert expectation.error(name, result) == 0
            assert expectation.error(name, result * 1.01) == pytest.approx(0.01)

    @pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize('case', SHARED, ids=shared_id)
    def test_right_results_pass(self, case, dtype):
        expectation, results = compute_shared(case, dtype)
        for name, result in results.items():
            assert expectation.error(name, result) <= expectation.tolerances[name], name

    @pytest.mark.parametrize('name', ['y', 'dx', 'dw'])
    @pytest.mark.parametrize('case', SHARED[:2], ids=shared_id)
    def test_wrong_results_do_not(self, case, name):
        expectation, results = compute_shared(case)
        result = results[name]
        broken = {
            'scaled': result * (1 + 1e-9),
            'rolled channels': result.roll(1, 0 if name == 'dw' else 1),
            'shifted': result.roll((1, 1), (2, 3)),
            'flipped': result.flip(2, 3),
        }
        for what, wrong in broken.items():
            assert not expectation.error(name, wrong) <= expectation.tolerances[name], what

    def test_another_grid_is_wrong(self):
        torch.manual_seed(0)
        expectation, _ = compute_shared(SHARED[0])
        torch.manual_seed(0)
        _, others = compute_shared((SHARED[0][0], (2, 1, 4)))
        for name, result in others.items():
            assert expectation.error(name, result) > 0.01, name

import math

import pytest
import torch

from mmlk.sparsity import erk, fill_dense, from_scores, uniform

#: A stem, a large kernel, two linear layers, as in the networks.
SHAPES = {'stem': (16, 3, 4, 4), 'strip': (16, 1, 51, 5), 'fc1': (64, 16), 'fc2': (16, 64), 'head': (1000, 16)}
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}


def overall(densities, sizes):
    return sum(densities[name] * sizes[name] for name in sizes) / sum(sizes.values())


def test_uniform():
    assert uniform({'a': (2, 2), 'b': (8, 8)}, 0.25) == {'a': 0.75, 'b': 0.75}


def test_erk_by_hand():
    # Raw densities (2 + 4) / 8 = 3 / 4 and (4 + 4) / 16 = 1 / 2: 6 and 8 of 8 and 16 weights; 12 wanted: eps = 6 / 7.
    assert erk({'a': (2, 4), 'b': (4, 4)}, 0.5) == pytest.approx({'a': 9 / 14, 'b': 3 / 7})


def test_erk_layers_that_would_exceed_one_are_dense():
    # Raw 1, 1 / 2, 1 / 4 of 4, 16, 64 weights: eps = 63 / 28, so a and b are over; 43 are left for c.
    assert erk({'a': (2, 2), 'b': (4, 4), 'c': (8, 8)}, 0.25) == {'a': 1.0, 'b': 1.0, 'c': 43 / 64}


@pytest.mark.parametrize('sparsity', [0.0, 0.1, 0.4, 0.9, 0.999])
def test_erk_total_is_the_requested_sparsity(sparsity):
    densities = erk(SHAPES, sparsity)
    assert overall(densities, SIZES) == pytest.approx(1 - sparsity, rel=1e-9)
    assert all(0 < density <= 1 for density in densities.values())


def test_snip_by_hand():
    scores = {'a': torch.tensor([8.0, 7.0, 1.0]), 'b': torch.tensor([6.0, 2.0, 3.0, 5.0, 4.0])}
    # The best four of eight: 8, 7, 6, 5.
    assert from_scores(scores, 0.5) == pytest.approx({'a': 2 / 3, 'b': 2 / 5})
    assert from_scores(scores, 0.0) == {'a': 1, 'b': 1}


def test_snip_shares_out_ties():
    scores = {'a': torch.tensor([9.0, 1.0]), 'b': torch.ones(6)}
    # Four of eight: the 9, and three of the seven ones.
    assert from_scores(scores, 0.5) == pytest.approx({'a': (1 + 3 / 7) / 2, 'b': 3 / 7})


def test_snip_of_scores_that_say_nothing_is_uniform():
    scores = {'a': torch.zeros(3), 'b': torch.zeros(5, 1)}
    assert from_scores(scores, 0.4) == pytest.approx({'a': 0.625, 'b': 0.625})


@pytest.mark.parametrize('sparsity', [0.1, 0.3, 0.4, 0.75])
def test_snip_total_is_the_requested_sparsity(sparsity):
    scores = {name: torch.rand(shape) * 10.0**-i for i, (name, shape) in enumerate(SHAPES.items())}
    densities = from_scores(scores, sparsity)
    assert overall(densities, SIZES) == pytest.approx(1 - sparsity, abs=1 / sum(SIZES.values()))
    # The first layer matters most.
    assert densities['stem'] > densities['head']


def test_snip_of_tiny_gradients_still_ranks():
    """With a layer scale of 1e-6 the products are around 1e-14; below 1e-38 they are subnormal, not equal."""
    scores = {'a': torch.tensor([3e-40, 1e-40]), 'b': torch.tensor([2e-40, 4e-40])}
    assert from_scores(scores, 0.25) == {'a': 0.5, 'b': 1.0}


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_snip_refuses_scores_that_are_not_finite(value):
    with pytest.raises(ValueError, match='The scores of b must be finite, got NaN or infinity'):
        from_scores({'a': torch.ones(2), 'b': torch.tensor([1.0, value])}, 0.5)


@pytest.mark.parametrize('sparsity', [1.0, -0.1, 1.5, math.nan])
@pytest.mark.parametrize('distribution', [uniform, erk])
def test_sparsity_outside_its_range(distribution, sparsity):
    with pytest.raises(ValueError, match=r'sparsity must be in \[0, 1\), the share of weights at zero, got'):
        distribution({'a': (2, 2)}, sparsity)


def test_fill_dense_keeps_the_total():
    densities = fill_dense({'a': 0.992, 'b': 0.5, 'c': 0.6}, {'a': 1000, 'b': 100, 'c': 200}, 0.99)
    assert densities['a'] == 1
    assert densities['b'] / densities['c'] == pytest.approx(0.5 / 0.6)
    assert 1000 + 100 * densities['b'] + 200 * densities['c'] == pytest.approx(992 + 50 + 120)


def test_fill_dense_of_layers_that_are_all_dense():
    assert fill_dense({'a': 0.995, 'b': 1.0}, {'a': 10, 'b': 10}, 0.99) == {'a': 1, 'b': 1}

import math

import pytest
import torch

from mmlk.sparsity import generator_for, grow_by_score, grow_random, prune, random_mask

MASK = torch.tensor([1, 1, 0, 1, 0, 1, 1, 0], dtype=torch.bool)
SCORES = torch.tensor([5.0, 1.0, 0.0, 2.0, 0.0, 3.0, 4.0, 0.0])


def bits(mask):
    return mask.int().tolist()


@pytest.fixture
def generator():
    return generator_for(seed=0, layer_name='layer', update_index=0)


def test_the_generator_depends_on_its_three_arguments_only():
    def draw(*arguments):
        return torch.rand(8, generator=generator_for(*arguments)).tolist()

    assert draw(1, 'a', 2) == draw(1, 'a', 2)
    others = [draw(2, 'a', 2), draw(1, 'b', 2), draw(1, 'a', 3), draw(1, '2/a', 2), draw(12, 'a', 2)]
    assert draw(1, 'a', 2) not in others
    # Literal, because masks must be the same in other processes and in the next version.
    assert torch.randperm(8, generator=generator_for(0, 'layer', 0)).tolist() == [2, 1, 0, 7, 4, 3, 6, 5]


@pytest.mark.parametrize(('density', 'count'), [(0.0, 0), (0.01, 1), (0.25, 2), (0.6, 5), (0.99, 8), (1.0, 8)])
def test_random_mask_has_an_exact_count(density, count, generator):
    """At least one entry stays where any is wanted: a layer that is all zero would never grow again."""
    mask = random_mask((2, 4), density, generator)
    assert mask.shape == (2, 4)
    assert mask.dtype == torch.bool
    assert mask.sum() == count


def test_random_mask_by_single_draws_is_right_on_average(generator):
    counts = torch.tensor([int(random_mask((100,), 0.6, generator, exact=False).sum()) for _ in range(400)]).float()
    # The mean of 400 binomial counts has a standard error of 0.245, a count a deviation of 4.9.
    assert counts.mean().item() == pytest.approx(60, abs=1)
    assert counts.std().item() == pytest.approx(4.9, abs=0.8)


def test_all_entries_are_equally_likely(generator):
    total = sum(random_mask((8,), 0.5, generator).int() for _ in range(2000))
    assert total.tolist() == pytest.approx([1000] * 8, abs=100)


@pytest.mark.parametrize(
    ('count', 'expected'),
    [
        (0, [1, 1, 0, 1, 0, 1, 1, 0]),
        (1, [1, 0, 0, 1, 0, 1, 1, 0]),
        (3, [1, 0, 0, 0, 0, 0, 1, 0]),
        (5, [0] * 8),
        (9, [0] * 8),
    ],
)
def test_prune(count, expected):
    mask = MASK.clone()
    assert bits(prune(mask, SCORES, count)) == expected
    assert mask.equal(MASK)


def test_prune_breaks_ties_by_index_and_keeps_nan():
    scores = torch.tensor([2.0, 2.0, 0.0, 2.0, 0.0, math.nan, 2.0, 0.0])
    assert bits(prune(MASK, scores, 2)) == [0, 0, 0, 1, 0, 1, 1, 0]
    assert bits(prune(MASK, scores, 4)) == [0, 0, 0, 0, 0, 1, 0, 0]


def test_prune_takes_new_weights_that_are_still_zero_first():
    assert bits(prune(MASK, torch.tensor([5.0, 1.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0]), 1)) == [1, 1, 0, 0, 0, 1, 1, 0]


@pytest.mark.parametrize('count', [0, 1, 2, 3, 7])
def test_grow_random_is_exact(count, generator):
    grown = grow_random(MASK, count, generator)
    assert (grown & MASK).equal(MASK)
    assert grown.sum() == min(5 + count, 8)


def test_grow_random_by_single_draws_is_right_on_average(generator):
    mask = torch.zeros(100, dtype=torch.bool)
    counts = torch.tensor([int(grow_random(mask, 20, generator, exact=False).sum()) for _ in range(400)]).float()
    # Standard error 0.2, deviation of a count 4.
    assert counts.mean().item() == pytest.approx(20, abs=0.8)
    assert counts.std().item() == pytest.approx(4, abs=0.7)
    assert grow_random(~mask, 20, generator, exact=False).all()


@pytest.mark.parametrize(
    ('scores', 'count', 'expected'),
    [
        ([9, 9, 1, 9, 3, 9, 9, 2], 1, [1, 1, 0, 1, 1, 1, 1, 0]),
        ([9, 9, 1, 9, 3, 9, 9, 2], 2, [1, 1, 0, 1, 1, 1, 1, 1]),
        ([9, 9, 1, 9, 1, 9, 9, 1], 2, [1, 1, 1, 1, 1, 1, 1, 0]),
        ([0, 0, math.nan, 0, 0, 0, 0, 0], 2, [1, 1, 0, 1, 1, 1, 1, 1]),
        ([0, 0, 1, 0, math.inf, 0, 0, 2], 1, [1, 1, 0, 1, 1, 1, 1, 0]),
        ([0] * 8, 5, [1] * 8),
    ],
)
def test_grow_by_score(scores, count, expected):
    assert bits(grow_by_score(MASK, torch.tensor(scores, dtype=torch.float32), count)) == expected


def test_shapes_are_kept():
    mask = MASK.view(2, 1, 2, 2)
    scores = SCORES.view(2, 1, 2, 2)
    generator = generator_for(0, 'layer', 1)
    for changed in (prune(mask, scores, 2), grow_random(mask, 2, generator), grow_by_score(mask, scores, 2)):
        assert changed.shape == mask.shape
        assert not changed.equal(mask)

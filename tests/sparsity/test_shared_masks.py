"""Layers that share masks, as the paths of SW: always, now and then, never."""

import pytest
import torch
from torch import nn

from mmlk.sparsity import ConstantPruneRate, SparseTraining, UpdateSchedule


def two_paths(share_interval, **settings):
    torch.manual_seed(0)
    parameters = {name: nn.Parameter(torch.randn(8, 8)) for name in ('a', 'b', 'other')}
    settings = {'prune_rate': ConstantPruneRate(0.3), 'updates': UpdateSchedule(1), **settings}
    training = SparseTraining(parameters, share=[('a', 'b')], share_interval=share_interval, **settings)
    training.init_random(dict.fromkeys(parameters, 0.5))
    return parameters, training


@pytest.mark.parametrize(
    ('share_interval', 'expected'),
    [
        (1, [1, 1, 1, 1, 1, 1, 1]),
        (3, [1, 0, 0, 1, 0, 0, 1]),
        (None, [0, 0, 0, 0, 0, 0, 0]),
        (0, [0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_when_the_masks_are_equal(share_interval, expected):
    _, training = two_paths(share_interval)
    masks = training.masks
    equal, synchronised = [masks['a'].equal(masks['b'])], []
    for _ in range(6):
        report = training.after_step()
        equal.append(masks['a'].equal(masks['b']))
        synchronised.append(report.synchronised)
        assert all(mask.sum() == 32 for mask in masks.values())
        assert not masks['other'].equal(masks['a'])
    assert equal == [bool(value) for value in expected]
    if share_interval:
        assert synchronised == equal[1:]


def test_a_common_update_prunes_by_the_sum_of_all_paths():
    """|a| + |b| of the active is 5, 3, 4, 9: the second goes, though the smallest of a is the third."""
    a = nn.Parameter(torch.tensor([4.0, 2.0, 1.0, 8.0, 0.0, 0.0, 0.0, 0.0]))
    b = nn.Parameter(torch.tensor([-1.0, 1.0, -3.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    training = SparseTraining(
        {'a': a, 'b': b},
        prune_rate=ConstantPruneRate(0.25),
        updates=UpdateSchedule(1),
        growth='gradient',
        share=[('a', 'b')],
    )
    mask = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
    training.load_state_dict({'steps': 0, 'updates_done': 0, 'masks': {'a': mask, 'b': mask}, 'dense': []})
    # 2 + 2 at the seventh is more than 3 at the sixth.
    a.grad = torch.tensor([0.0, 0, 0, 0, 0, 3, 2, 0])
    b.grad = torch.tensor([0.0, 0, 0, 0, 0, 0, -2, 0])
    report = training.after_step()
    expected = [1, 0, 1, 1, 0, 0, 1, 0]
    assert training.masks['a'].int().tolist() == training.masks['b'].int().tolist() == expected
    assert a.tolist() == [4, 0, 1, 8, 0, 0, 0, 0]
    assert b.tolist() == [-1, 0, -3, 1, 0, 0, 0, 0]
    assert report.layers['a'] == report.layers['b']


def test_a_common_update_takes_the_first_mask():
    """What is active in the second path only is lost, as in the authors' code."""
    a = nn.Parameter(torch.tensor([4.0, 3.0, 0.0, 0.0]))
    b = nn.Parameter(torch.tensor([0.0, 0.0, 9.0, 8.0]))
    optimizer = torch.optim.AdamW([a, b])
    training = SparseTraining(
        {'a': a, 'b': b}, prune_rate=ConstantPruneRate(0.0), updates=UpdateSchedule(1), share={'paths': ['a', 'b']}
    )
    masks = {'a': torch.tensor([True, True, False, False]), 'b': torch.tensor([False, False, True, True])}
    training.load_state_dict({'steps': 0, 'updates_done': 0, 'masks': masks, 'dense': []})
    (a + b).sum().backward()
    optimizer.step()
    training.after_step(optimizer)
    assert training.masks['b'].tolist() == [True, True, False, False]
    assert not b.any()
    assert optimizer.state[a]['exp_avg'].all()
    assert not optimizer.state[b]['exp_avg'].any()


def test_paths_are_scored_together():
    """Both paths have the density of the layer, though all of the better scores are in one."""
    parameters, training = two_paths(1)
    scores = {name: torch.full((8, 8), value) for name, value in (('a', 3.0), ('b', 1.0), ('other', 2.0))}
    densities = training.densities('snip', 0.5, scores)
    # 96 of 192: all 64 of a, 32 of the 64 of other; the group keeps 64 of 128.
    assert densities == {'a': 0.5, 'b': 0.5, 'other': 0.5}
    assert training.densities('erk', 0.5) == {'a': 0.5, 'b': 0.5, 'other': 0.5}


def test_dense_paths_are_dense_together():
    parameters, training = two_paths(1)
    assert training.init_random({'a': 0.995, 'b': 0.995, 'other': 0.5}) == ['a', 'b']
    report = training.after_step()
    assert list(report.layers) == ['other']

import math

import pytest
import torch

from mmlk.sparsity.ranking import kth_smallest, smallest, sortable_keys


def test_keys_are_in_the_order_of_the_values():
    values = [-math.inf, -2.0, -1e-45, 0.0, 1e-45, 0.5, 3.0, math.inf, math.nan]
    keys = sortable_keys(torch.tensor(values)).tolist()
    assert keys == sorted(keys)
    assert len(set(keys)) == len(values)
    minus_zero, zero = sortable_keys(torch.tensor([-0.0, 0.0])).tolist()
    assert minus_zero == zero


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_kth_smallest_of_several_tensors_is_that_of_a_sort(dtype):
    parts = [torch.randn(size).to(dtype) for size in (50, 1, 0, 300)]
    keys = [sortable_keys(part) for part in parts]
    ordered = torch.cat(keys).sort().values.tolist()
    assert [kth_smallest(keys, k) for k in range(1, 352, 14)] == ordered[::14]


@pytest.mark.parametrize(
    ('k', 'expected'),
    [(0, []), (1, [1]), (2, [1, 3]), (4, [0, 1, 3, 5]), (7, [0, 1, 2, 3, 5, 6, 7]), (9, [*range(8)])],
)
def test_ties_go_by_index(k, expected):
    keys = sortable_keys(torch.tensor([2.0, 1.0, 3.0, 1.0, 4.0, 2.0, 3.0, 3.0]))
    assert smallest(keys, k).tolist() == expected


def test_smallest_of_many_is_a_stable_sort():
    scores = torch.randn(5000).round(decimals=1)
    for k in (1, 17, 2500, 4999):
        expected = scores.argsort(stable=True)[:k].sort().values
        assert smallest(sortable_keys(scores), k).equal(expected)

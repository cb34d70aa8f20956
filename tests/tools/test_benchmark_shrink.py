"""tools/benchmark_shrink.py on networks with one block a stage."""

import json

import pytest
from tool_runner import run_tool

from mmlk.benchmarks.results import find_errors
from mmlk.benchmarks.shrink import CASES, RELEASED_KERNELS, RELEASED_ZEROS, build
from mmlk.cli.benchmark_shrink import select_cases
from mmlk.errors import UsageError

QUICK = ('--depths', '1', '1', '1', '1', '--image-size', '64', '--batch-size', '1', '--seconds', '0.01')


def test_result_file(tmp_path):
    path = tmp_path / 'shrink.json'
    result = run_tool('benchmark_shrink.py', '--cases', 'SLaK-T, dense, none', *QUICK, '--verbose', '--json', path)
    assert result.code == 0, result.err
    results = json.loads(path.read_text())
    assert find_errors(results) == []
    (row,) = results['rows']
    assert row['case'] == 'SLaK-T, dense, none'
    assert row['layers'] == 4
    assert row['weights']['before'] == 124 * 51**2 + 249 * 49**2 + 499 * 47**2 + 998 * 13**2
    assert row['error'] < row['tolerance']
    # Within a pass the mixers take a part of it.
    assert row['mixers']['before']['min_ms'] < row['network_forward']['before']['median_ms']


def test_cases():
    assert select_cases(None) == list(CASES)
    assert [case.network for case in select_cases('outer; 1 arrangements')] == ['SW-T'] * 4 + ['SLaK-T']
    with pytest.raises(UsageError, match="--cases 'nothing' is part of no case; --list prints them"):
        select_cases('nothing')
    assert len(set(map(str, CASES))) == len(CASES)


def test_released_sparsity():
    """30.13 % of the small kernels, shared out as in the authors' run."""
    total = sum(count * len(zeros) for count, zeros in zip(RELEASED_KERNELS, RELEASED_ZEROS, strict=True))
    assert (sum(map(sum, RELEASED_ZEROS)), total) == (26366, 87510)
    # Four arrangements fill what one leaves empty.
    one, four = (
        next(case for case in CASES if case.pattern == 'released' and case.shared and case.arrangements == count)
        for count in (1, 4)
    )
    density = []
    for case in (one, four):
        kernel = build(case, depths=(3, 1, 1, 1), width_factor=0.25).stages[0].blocks[2].mixer.reparam_convs[1].weight
        density.append((kernel != 0).double().mean().item())
    assert density[0] == pytest.approx(1 - 459 / 1020, abs=0.1)
    assert density[1] > 0.8

"""Two processes with gloo on the CPU: the same masks and weights on both, and those of one process."""

import subprocess
import sys

import numpy as np
import pytest
import sparse_processes
import torch
from sparse_processes import RUNS, network, train
from sparse_runs import hook_of

import mmlk.analysis.sparsity_figure
from mmlk.engine.hooks.dynamic_sparsity import snip as dynamic_sparsity_snip

#: Largest relative difference allowed between one and two processes, which sum gradients in another order.
ROUNDING = 1e-9


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(mmlk.analysis.sparsity_figure, 'draw_density', lambda densities: np.zeros((2, 2, 3), np.uint8))


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """What both processes ended with, by run."""
    folder = tmp_path_factory.mktemp('processes')
    command = [sys.executable, sparse_processes.__file__, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [torch.load(folder / f'process{rank}.pth', weights_only=True) for rank in range(2)]


@pytest.mark.parametrize('name', RUNS)
def test_equal_on_both(name, two):
    first, second = (found[name] for found in two)
    assert first['steps'] == second['steps'] == 20
    # Not after the last step.
    assert first['updates_done'] == second['updates_done'] == 3
    assert first['seed'] == second['seed'] == 3
    assert list(first['masks']) == list(second['masks'])
    for layer, mask in first['masks'].items():
        assert torch.equal(mask, second['masks'][layer]), layer
        assert not first['weights'][layer][~mask].any()
    for layer, weight in first['weights'].items():
        assert torch.equal(weight, second['weights'][layer]), layer


@pytest.mark.parametrize('name', ['random', 'gradient'])
def test_equal_to_one_process(name, two, tmp_path):
    run = train(tmp_path, name, 4, network())
    training, both = hook_of(run).training, two[0][name]
    for layer, mask in training.masks.items():
        assert torch.equal(mask, both['masks'][layer]), layer
    for layer, weight in run.model.named_parameters():
        error = (weight - both['weights'][layer]).norm() / weight.norm()
        assert error < ROUNDING, f'{layer}: {error:.2g}'


def test_sharded_moments_are_reset(two):
    """ZeroRedundancyOptimizer gives what AdamW gives."""
    for layer, weight in two[0]['random']['weights'].items():
        assert torch.allclose(two[0]['zero']['weights'][layer], weight, rtol=1e-12, atol=0), layer
    for layer, mask in two[0]['random']['masks'].items():
        assert torch.equal(two[0]['zero']['masks'][layer], mask)


def test_snip_scores_are_averaged(two, tmp_path, monkeypatch):
    """Densities are those of the mean of the two processes' scores, each from pictures of its own."""
    scores = []
    original = dynamic_sparsity_snip.snip_scores
    monkeypatch.setattr(
        dynamic_sparsity_snip, 'snip_scores', lambda *args: scores.append(original(*args)) or dict(scores[-1])
    )
    runs = []
    for rank in range(2):
        monkeypatch.setattr(dynamic_sparsity_snip, 'get_rank', lambda rank=rank: rank)
        runs.append(train(tmp_path / str(rank), 'snip', 2, network()))
    mean = {layer: (value + scores[1][layer]) / 2 for layer, value in scores[0].items()}
    training = hook_of(runs[0]).training
    expected = training.densities('snip', 0.5, mean)
    assert expected != training.densities('snip', 0.5, scores[0]) != training.densities('snip', 0.5, scores[1])
    training.init_random(expected)
    assert training.density() == two[0]['snip']['density']

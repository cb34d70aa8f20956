"""Averaged weights stay under the masks, and grown ones join at once."""

import numpy as np
import pytest
import torch
from sparse_runs import ADAMW, EMA, Probe, hook_of, runner, sparsity

import mmlk.analysis.sparsity_figure
from mmlk.compat.checkpoint_loader import load_checkpoint_file

MOMENTUM = EMA['momentum']


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(mmlk.analysis.sparsity_figure, 'draw_density', lambda densities: np.zeros((2, 2, 3), np.uint8))


class Follow:
    """Computes what the averages have to be, from the weights and masks after every iteration."""

    def __init__(self, accumulation=1):
        self.averages, self.masks, self.grown_at = {}, {}, {}
        self.accumulation = accumulation
        self.started = 0

    def __call__(self, run, iteration):
        training = hook_of(run).training
        ema = next(hook for hook in run.hooks if hasattr(hook, 'ema_model')).ema_model.module
        actual = dict(ema.named_parameters())
        stepped = iteration % self.accumulation == 0
        for name, weight in training.parameters.items():
            mask = training.masks[name]
            if iteration == 1:
                expected = weight.detach().clone()
            else:
                before = self.averages[name]
                if stepped and self.grown_at.get(name) is not None:
                    grown = self.grown_at.pop(name)
                    before = torch.where(grown, weight, before).detach()
                    self.started += int(grown.sum())
                expected = torch.lerp(before * mask, weight.detach(), MOMENTUM)
            previous = self.masks.get(name, mask)
            if not torch.equal(previous, mask):
                # Also what was pruned before and is back has no average yet.
                self.grown_at[name] = mask & ~previous
            assert torch.equal(actual[name], expected), f'{name} at iteration {iteration}'
            assert not actual[name][~mask].any()
            self.averages[name], self.masks[name] = expected, mask.clone()


@pytest.mark.parametrize('accumulation', [1, 2])
def test_followed_step_by_step(accumulation, tmp_path):
    follow = Follow(accumulation)
    wrapper = dict(optimizer=ADAMW, accumulative_counts=accumulation)
    run = runner(
        tmp_path, EMA, sparsity(interval=5), Probe(follow), optim_wrapper=wrapper, length=50 * accumulation
    )  # fmt: skip
    run.train()
    assert hook_of(run).training.updates_done == 9
    assert follow.started > 100


@pytest.mark.parametrize('hooks_first', [True, False], ids=['before EMA', 'after EMA'])
def test_order_of_the_hooks_does_not_matter(hooks_first, tmp_path):
    follow = Follow()
    hooks = [sparsity(), EMA] if hooks_first else [EMA, sparsity()]
    runner(tmp_path, *hooks, Probe(follow)).train()
    assert follow.started > 0


def test_of_mmpretrain(tmp_path):
    follow = Follow()
    ema = dict(type='mmpretrain.EMAHook', momentum=MOMENTUM)
    run = runner(tmp_path, ema, sparsity(), Probe(follow))
    assert any(type(hook).__module__.startswith('mmpretrain') for hook in run.hooks)
    run.train()
    assert follow.started > 0


def test_of_mmpretrain_after_load_from(tmp_path):
    """It copies loaded averages into the weights when training starts; the masks come after that."""
    ema = dict(type='mmpretrain.EMAHook', momentum=MOMENTUM)
    runner(tmp_path / 'dense', ema, save_every=10, length=10).train()

    def check(run, iteration):
        for name, mask in hook_of(run).training.masks.items():
            assert not dict(run.model.named_parameters())[name][~mask].any()
            assert mask.float().mean() == 0.5

    load_from = str(tmp_path / 'dense' / 'iter_10.pth')
    runner(tmp_path / 'sparse', ema, sparsity(), Probe(check), load_from=load_from, length=3).train()


def test_stored_averages_are_sparse(tmp_path):
    runner(tmp_path, EMA, sparsity(), save_every=25, length=25).train()
    saved = load_checkpoint_file(tmp_path / 'iter_25.pth')
    for name, mask in saved['dynamic_sparsity']['masks'].items():
        # EMAHook puts the averages where the weights are, and the weights beside them.
        assert not saved['state_dict'][name][~mask].any()
        assert not saved['ema_state_dict'][f'module.{name}'][~mask].any()
        assert not torch.equal(saved['state_dict'][name], saved['ema_state_dict'][f'module.{name}'])

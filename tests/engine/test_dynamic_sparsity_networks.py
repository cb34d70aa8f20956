"""The networks whose papers train sparsely, with the scopes and units of their configs, and fused afterwards."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from sparse_runs import EMA, Pictures, Probe, hook_of, runner, sparsity
from torch import nn

import mmlk.analysis.sparsity_figure
from mmlk.engine.hooks.dynamic_sparsity.report import compact_names

NETWORKS = {
    'PeLK': dict(arch='t', depths=(1, 1, 2, 1), width_factor=1 / 12, kernel_size=(9, 9, 7, 7), center_radius=1),
    'SLaK': dict(arch='t', depths=(1, 1, 2, 1), width_factor=1 / 12, kernel_size=(9, 9, 7, 7, 5)),
    'ShiftWiseNet': dict(arch='v2_t', depths=(1, 1, 2, 1), base_channels=(12, 16, 20, 24), kernel_size=(9, 9, 7, 7, 3)),
}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(mmlk.analysis.sparsity_figure, 'draw_density', lambda densities: np.zeros((2, 2, 3), np.uint8))


class Classifier(BaseModel):
    """A backbone and a linear classifier on pictures of 32 pixels."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = MODELS.build(dict(type=f'mmlk.{name}', final_norm=True, **NETWORKS[name]))
        self.head = nn.Sequential(nn.Linear(self.backbone.channels[-1], 5))

    def forward(self, inputs, labels, mode='tensor'):
        logits = self.head(self.backbone(nn.functional.interpolate(torch.stack(inputs), size=32))[0])
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(logits, torch.tensor(labels)))
        return list(logits)


class Sum(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(sample.double().abs().sum().item() for sample in data_samples)

    def compute_metrics(self, results):
        return dict(sum=sum(results))


def zeros_stay(run, iteration):
    for name, mask in hook_of(run).training.masks.items():
        weight = hook_of(run).training.parameters[name]
        assert torch.equal(weight, weight * mask), f'{name} at iteration {iteration}'


def testing():
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=Pictures(size=4),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    return dict(test_dataloader=loader, test_cfg=dict(), test_evaluator=[Sum()])


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('scope', ['all', 'large_kernels'])
def test_trained_and_fused(name, scope, tmp_path):
    hook = sparsity(init='snip', scope=scope, interval=3, sparsity=0.4)
    deploy = dict(type='mmlk.SwitchToDeployHook')
    run = runner(tmp_path, hook, EMA, Probe(zeros_stay), model=Classifier(name), length=8, **testing())
    run.train()
    training = hook_of(run).training
    assert training.updates_done == 2
    counts = training.counts().values()
    assert sum(active for active, _ in counts) == pytest.approx(0.6 * sum(total for _, total in counts), rel=0.01)
    assert all(name.startswith('backbone.') for name in training.parameters) == (scope == 'large_kernels')
    # Short names for the log, all different.
    assert len(set(compact_names(list(training.parameters)).values())) == len(training.parameters)
    result = run.test()['sum']
    torch.manual_seed(0)
    fused = runner(tmp_path / 'fused', deploy, model=run.model, **testing())
    assert fused.test()['sum'] == pytest.approx(result, rel=1e-4)


@pytest.mark.parametrize('share_interval', [1, 2, 0])
def test_paths_of_shiftwise(share_interval, tmp_path):
    """One mask for all paths of a layer: always, at the beginning and at every second update, never."""
    common = []

    def compare(run, iteration):
        zeros_stay(run, iteration)
        training = hook_of(run).training
        pairs = [
            (mask, training.masks[name[:-1] + '1'])
            for name, mask in training.masks.items()
            if name.endswith('.paths.0') and name[:-1] + '1' in training.masks
        ]
        assert pairs
        common.append(all(torch.equal(*pair) for pair in pairs))

    hook = sparsity(
        sparsity=0.5,
        init='uniform',
        interval=2,
        prune_rate=0.5,
        scope='large_kernels',
        unit='kernel',
        share_interval=share_interval,
    )
    run = runner(tmp_path, hook, Probe(compare), model=Classifier('ShiftWiseNet'), length=9)
    run.train()
    assert all(mask.shape[1:] == (1, 1, 1) for mask in hook_of(run).training.masks.values())
    # Updates follow steps 2, 4, 6 and 8.
    expected = {1: [True] * 9, 2: [True] + 2 * [False] + 2 * [True] + 2 * [False] + 2 * [True], 0: [False] * 9}
    assert common == expected[share_interval]

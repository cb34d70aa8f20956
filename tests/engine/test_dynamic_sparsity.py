"""Sparse training in whole runs: zeros stay zeros and the rest trains, whatever steps the optimizer."""

import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from sparse_runs import ADAMW, EMA, Network, Pictures, Probe, hook_of, runner, sparsity

import mmlk.analysis.sparsity_figure
from mmlk.engine import AccelerateHook, SwitchToDeployHook
from mmlk.errors import UsageError
from mmlk.nn import LargeKernelConv2d

#: Weights in scope: stem, depthwise and pointwise convolution, classifier.
COUNTS = {'backbone.0.weight': 216, 'backbone.2.weight': 392, 'backbone.4.weight': 128, 'head.0.weight': 80}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """matplotlib takes half a second a figure."""
    monkeypatch.setattr(mmlk.analysis.sparsity_figure, 'draw_density', lambda densities: np.zeros((2, 2, 3), np.uint8))


class Watch:
    """After every iteration: masked entries are zero, active counts are what they were; and what has changed."""

    def __init__(self):
        self.masks = []
        self.moved = None
        self.steps = []

    def __call__(self, run, iteration):
        training = hook_of(run).training
        self.steps.append(training.steps)
        weights = dict(run.model.named_parameters())
        for name, mask in training.masks.items():
            assert torch.equal(weights[name], weights[name] * mask), f'{name} at iteration {iteration}'
        counts = {name: int(mask.sum()) for name, mask in training.masks.items()}
        masks = {name: mask.clone() for name, mask in training.masks.items()}
        if self.masks:
            assert counts == {name: int(mask.sum()) for name, mask in self.masks[-1].items()}
        else:
            self.first = {name: weights[name].detach().clone() for name in masks}
        self.masks.append(masks)
        self.last = {name: weights[name].detach().clone() for name in masks}

    def check(self, updates):
        """Every weight that is active at the end has trained; the masks changed at the updates and only there."""
        for name, mask in self.masks[-1].items():
            moved = self.last[name] != self.first[name]
            assert moved[mask].all(), name
            assert not (self.last[name][~mask]).any()
        changes = [
            index + 1
            for index in range(1, len(self.masks))
            if any(not torch.equal(self.masks[index][name], self.masks[index - 1][name]) for name in self.masks[0])
        ]
        assert changes == updates


AMP = dict(type='CpuAmpOptimWrapper', optimizer=ADAMW)
FIFTY = [10, 20, 30, 40]
RUNS = {
    'plain': (dict(optimizer=ADAMW), 50, FIFTY),
    'momentum': (dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True)), 50, FIFTY),
    'accumulation': (dict(optimizer=ADAMW, accumulative_counts=2), 100, [20, 40, 60, 80]),
    'clipping': (dict(optimizer=ADAMW, clip_grad=dict(max_norm=0.01)), 50, FIFTY),
    'weight decay': (dict(optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.5)), 50, FIFTY),
    'bfloat16': (AMP, 50, FIFTY),
    'bfloat16, accumulation, clipping': (
        dict(AMP, accumulative_counts=2, clip_grad=dict(max_norm=0.1)),
        100,
        [20, 40, 60, 80],
    ),
    'fused': (dict(optimizer=dict(ADAMW, fused=True)), 50, FIFTY),
}


@pytest.mark.parametrize('name', RUNS)
def test_fifty_steps(name, tmp_path):
    wrapper, length, updates = RUNS[name]
    watch = Watch()
    run = runner(tmp_path, sparsity(), Probe(watch), optim_wrapper=wrapper, length=length)
    run.train()
    training = hook_of(run).training
    assert training.steps == 50
    assert training.prune_rate.total_steps == 50
    watch.check(updates)
    active = sum(active for active, _ in training.counts().values())
    assert {n: total for n, (_, total) in training.counts().items()} == COUNTS
    assert active == pytest.approx(0.5 * sum(COUNTS.values()), abs=2)


@pytest.mark.parametrize('options', [{}, dict(init='snip'), dict(init='erk'), dict(growth='gradient')])
def test_options(options, tmp_path):
    watch = Watch()
    runner(tmp_path, sparsity(**options), Probe(watch)).train()
    watch.check(FIFTY)


def test_counts_on_average(tmp_path):
    """The authors' rule: every entry is drawn on its own, so counts wander a little."""
    counts = []

    def count(run, iteration):
        counts.append(sum(active for active, _ in hook_of(run).training.counts().values()))

    runner(tmp_path, sparsity(exact=False), Probe(count)).train()
    assert len(set(counts)) == 5
    # Five standard deviations of 816 draws with probability 1/2.
    assert all(abs(found - 408) < 5 * 14.3 for found in counts)


def test_gradient_growth_takes_the_largest_gradients(tmp_path):
    seen = {}

    def after_step(optimizer, *_):
        # Registered before the hook's own, so the masks are still those before the update.
        training = hook_of(run).training
        if training is not None and training.steps == 9:
            seen['masks'] = {name: mask.clone() for name, mask in training.masks.items()}
            seen['grads'] = {name: parameter.grad.clone() for name, parameter in training.parameters.items()}

    run = runner(tmp_path, sparsity(growth='gradient'), length=11)
    run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    run.optim_wrapper.optimizer.register_step_post_hook(after_step)
    run.train()
    training = hook_of(run).training
    grown_somewhere = 0
    for name, mask in training.masks.items():
        before, grad = seen['masks'][name], seen['grads'][name].abs()
        grown, still_off = mask & ~before, ~mask & ~before
        grown_somewhere += int(grown.sum())
        if grown.any() and still_off.any():
            assert grad[grown].min() >= grad[still_off].max(), name
    assert grown_somewhere > 0


def test_skipped_steps_do_not_count(tmp_path):
    """A step that the loss scaler skips changes nothing, whether the optimizer is called for it (fused) or not."""
    for fused in (False, True):
        model = Network()
        model.infinite_at = (3, 10)
        watch = Watch()
        wrapper = dict(AMP, optimizer=dict(ADAMW, fused=fused), init_scale=64.0)
        run = runner(tmp_path / str(fused), sparsity(), Probe(watch), model=model, optim_wrapper=wrapper, length=16)
        run.train()
        assert hook_of(run).training.steps == 14
        assert watch.steps == [1, 2, 2, *range(3, 9), 8, *range(9, 15)]
        # The tenth step is the twelfth iteration.
        watch.check([12])


def test_the_end_of_an_incomplete_accumulation_is_a_step(tmp_path):
    run = runner(tmp_path, sparsity(), optim_wrapper=dict(optimizer=ADAMW, accumulative_counts=3), length=10)
    run.train()
    assert hook_of(run).training.steps == 4
    assert hook_of(run).training.prune_rate.total_steps == 4


def test_moments_are_zero_at_changed_entries(tmp_path):
    checked = []

    def check(run, iteration):
        training, state = hook_of(run).training, run.optim_wrapper.optimizer.state
        for name, mask in training.masks.items():
            before = check.masks.get(name, mask)
            changed = mask != before
            for moment in ('exp_avg', 'exp_avg_sq'):
                values = state[training.parameters[name]][moment]
                assert not values[changed].any()
                assert values[mask & ~changed].all()
            checked.append(int(changed.sum()))
        check.masks = {name: mask.clone() for name, mask in training.masks.items()}

    check.masks = {}
    runner(tmp_path, sparsity(), Probe(check), length=12).train()
    assert sum(count > 0 for count in checked) == len(check.masks)


def test_fixed_masks(tmp_path):
    watch = Watch()
    run = runner(tmp_path, sparsity(mode='fixed', sparsity=0.5, init='uniform'), Probe(watch))
    run.train()
    watch.check([])
    assert set(hook_of(run).training.density().values()) == {0.5}


def test_static_masks_are_the_zeros_of_the_weights(tmp_path):
    first = runner(tmp_path / 'sparse', sparsity(), save_every=20, length=20)
    first.train()
    expected = {name: weight != 0 for name, weight in hook_of(first).training.parameters.items()}
    watch = Watch()
    second = runner(
        tmp_path / 'tuned', dict(type='mmlk.DynamicSparsityHook', mode='static'), Probe(watch),
        load_from=str(tmp_path / 'sparse' / 'iter_20.pth'),
    )  # fmt: skip
    second.train()
    masks = hook_of(second).training.masks
    assert list(masks) == list(expected)
    for name, mask in masks.items():
        assert torch.equal(mask, expected[name])
    watch.check([])


def test_static_without_zeros_says_so(tmp_path):
    run = runner(tmp_path, dict(type='mmlk.DynamicSparsityHook', mode='static'), length=2)
    run.train()
    assert "mode='static' found no zero in 4 layers" in log_of(tmp_path)
    assert hook_of(run).training.masks == {}


def test_loaded_weights_get_new_masks(tmp_path):
    """load_from is not a resume."""
    first = runner(tmp_path / 'first', sparsity(seed=1), save_every=20, length=20)
    first.train()
    load_from = str(tmp_path / 'first' / 'iter_20.pth')
    second = runner(tmp_path / 'second', sparsity(seed=2), load_from=load_from, length=2)
    second.train()
    training = hook_of(second).training
    assert (training.steps, training.updates_done) == (2, 0)
    assert any(not torch.equal(mask, hook_of(first).training.masks[name]) for name, mask in training.masks.items())


@pytest.mark.parametrize('changed', [dict(randomness=dict(seed=1)), dict(hook=dict(seed=1))])
def test_masks_depend_on_the_seed(changed, tmp_path):
    runs = []
    for index, more in enumerate(({}, {}, changed)):
        run = runner(tmp_path / str(index), sparsity(**more.get('hook', {})), length=1, **{
            name: value for name, value in more.items() if name != 'hook'
        })  # fmt: skip
        run.train()
        runs.append(hook_of(run).training.masks)
    same = [all(torch.equal(mask, other[name]) for name, mask in runs[0].items()) for other in runs[1:]]
    assert same == [True, False]


def test_scopes_and_units(tmp_path):
    for scope, unit, names in (
        (r'backbone\.[24]', 'element', ['backbone.2.weight', 'backbone.4.weight']),
        (r'backbone\.2', 'kernel', ['backbone.2.weight']),
    ):
        run = runner(tmp_path / unit, sparsity(scope=scope, unit=unit), length=12)
        run.train()
        training = hook_of(run).training
        assert list(training.parameters) == names
        assert training.masks['backbone.2.weight'].shape == ((8, 1, 1, 1) if unit == 'kernel' else (8, 1, 7, 7))
        if unit == 'kernel':
            kernels = run.model.backbone[2].weight.flatten(1)
            assert [bool(kernel.any()) for kernel in kernels] == training.masks['backbone.2.weight'].flatten().tolist()


def test_beside_other_hooks(tmp_path):
    """Hooks of the config stay, and AccelerateHook and SwitchToDeployHook do what they do."""
    text = (
        f'custom_hooks = [{EMA}, dict(type="mmlk.AccelerateHook"), {sparsity()}, dict(type="mmlk.SwitchToDeployHook")]'
    )
    watch = Watch()
    run = runner(tmp_path, *Config.fromstring(text, '.py').custom_hooks, Probe(watch))
    run.train()
    assert isinstance(run.model.backbone[2], LargeKernelConv2d)
    for kind in (EMAHook, AccelerateHook, SwitchToDeployHook):
        assert sum(isinstance(hook, kind) for hook in run.hooks) == 1
    watch.check(FIFTY)


def test_two_optimizers(tmp_path):
    """One of them holds all weights in scope; where none does, one sentence says so."""

    class TwoSteps(Network):
        def train_step(self, data, optim_wrapper):
            loss, logs = self.parse_losses(self._run_forward(self.data_preprocessor(data, True), 'loss'))
            optim_wrapper['backbone'].zero_grad()
            optim_wrapper['head'].zero_grad()
            loss.backward()
            optim_wrapper['backbone'].step()
            optim_wrapper['head'].step()
            return logs

    def run_of(folder, scope):
        run = runner(folder, sparsity(scope=scope, init='erk'), Probe(watch), model=TwoSteps(), length=12)
        wrappers = {
            name: OptimWrapper(torch.optim.AdamW(getattr(run.model, name).parameters(), lr=1e-2))
            for name in ('backbone', 'head')
        }
        run.optim_wrapper = OptimWrapperDict(**wrappers)
        return run

    watch = Watch()
    run = run_of(tmp_path / 'backbone', '^backbone')
    run.train()
    assert hook_of(run).training.steps == 12
    watch.check([10])
    message = (
        'mmlk.DynamicSparsityHook needs one optimizer that holds all 4 weights in scope themselves, and 1 are not in '
        'it, such as head.0.weight: narrow scope'
    )
    with pytest.raises(UsageError, match=re.escape(message)):
        run_of(tmp_path / 'all', 'all').train()


def test_frozen_layers_are_left_out(tmp_path):
    model = Network()
    model.backbone[0].requires_grad_(False)
    before = model.backbone[0].weight.clone()
    run = runner(tmp_path, sparsity(), model=model, length=2)
    run.train()
    assert list(hook_of(run).training.parameters) == list(COUNTS)[1:]
    assert torch.equal(run.model.backbone[0].weight, before)


def test_training_again_does_not_draw_again(tmp_path):
    run = runner(tmp_path, sparsity(), length=12)
    run.train()
    weights = {name: weight.clone() for name, weight in run.model.named_parameters()}
    run.train()
    for name, weight in run.model.named_parameters():
        assert torch.equal(weight, weights[name])


def test_the_optimizer_is_left_alone_afterwards(tmp_path):
    run = runner(tmp_path, sparsity(), length=2)
    run.train()
    weight = run.model.head[0].weight
    mask = hook_of(run).training.masks['head.0.weight']
    run.model._run_forward(dict(inputs=[torch.ones(3, 8, 8)], labels=[1]), 'loss')['loss'].backward()
    run.optim_wrapper.step()
    assert hook_of(run).training.steps == 2
    assert weight[~mask].any()


def log_of(folder):
    return '\n'.join(path.read_text() for path in sorted(folder.rglob('*.log')))


def test_what_is_logged(tmp_path, monkeypatch):
    """One scalar in every line; densities per layer at the beginning and at updates; a figure at both ends."""
    drawn = []

    def draw(densities):
        drawn.append(densities)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(mmlk.analysis.sparsity_figure, 'draw_density', draw)
    run = runner(tmp_path, sparsity(init='erk'), length=20)
    run.train()
    log = log_of(tmp_path)
    assert re.search(
        r'sparse training, dynamic: 408 of 816 weights active \(density 0\.5000\) in 4 layers, 2 of them dense '
        r'\(4, head\.0\), updates of the masks to come: 1\n',
        log,
    ), log
    found = re.search(r'update 1 after 10 optimizer steps pruned (\d+) and grew (\d+) mask entries \(prune rate', log)
    assert found[1] == found[2]
    assert int(found[1]) > 0
    assert log.count('Iter(train)') == log.count('density: 0.5000')
    records = [Config.fromstring(f'r = {line.replace("null", "None")}', '.py').r
               for path in tmp_path.rglob('scalars.json') for line in path.read_text().splitlines()]  # fmt: skip
    layers = [record for record in records if 'density/0' in record]
    assert [record['step'] for record in layers] == [0, 10]
    assert {key for key in layers[0] if '/' in key} == {'density/0', 'density/2', 'density/4', 'density/head.0'}
    assert layers[1]['pruned'] == layers[1]['grown'] == int(found[1])
    assert [list(densities) for densities in drawn] == [list(COUNTS)] * 2
    assert {path.name for path in tmp_path.rglob('*.png')} == {'density_0.png', 'density_20.png'}


def test_data_set_is_read_as_without_the_hook(tmp_path):
    reads = []
    for hooks in ((), (sparsity(),)):
        data = Pictures()
        runner(tmp_path / str(len(hooks)), *hooks, dataset=data, length=4).train()
        reads.append(data.reads)
    assert reads[0] == reads[1]

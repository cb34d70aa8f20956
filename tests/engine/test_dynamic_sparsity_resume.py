"""A run that is killed and resumed ends as one that was not; checkpoints without fitting masks get one sentence."""

import subprocess
import sys

import numpy as np
import pytest
import sparse_runs
import torch
from sparse_runs import EMA, hook_of, interruptible, runner, sparsity

import mmlk.analysis.sparsity_figure
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.errors import UsageError


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(mmlk.analysis.sparsity_figure, 'draw_density', lambda densities: np.zeros((2, 2, 3), np.uint8))


#: The checkpoint each goes on from, and the last one.
CHECKPOINTS = {'epoch': ('epoch_4.pth', 'epoch_8.pth'), 'iteration': ('iter_40.pth', 'iter_60.pth')}


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    """Folder of runs that were killed."""
    folder = tmp_path_factory.mktemp('killed')
    command = [sys.executable, sparse_runs.__file__, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


@pytest.fixture
def one_thread():
    """As in the processes that were killed: sums would be of another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_same(actual, expected, where):
    """Nested dictionaries, lists and tensors, bit by bit."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), where
        for key in expected:
            assert_same(actual[key], expected[key], f'{where}.{key}')
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), where
        for index, pair in enumerate(zip(actual, expected, strict=True)):
            assert_same(*pair, f'{where}[{index}]')
    elif isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype and torch.equal(actual, expected), where
    else:
        assert actual == expected, where


@pytest.mark.parametrize('kind', CHECKPOINTS)
def test_killed_and_resumed(kind, killed, one_thread, tmp_path):
    folder, (before, last) = killed / kind, CHECKPOINTS[kind]
    assert (folder / before).is_file() and not (folder / last).exists()
    saved = load_checkpoint_file(folder / before)['dynamic_sparsity']
    seen = {}

    def first(run, iteration):
        seen.setdefault('steps', hook_of(run).training.steps)

    resumed = interruptible(folder, kind, sparse_runs.Probe(first), resume=True)
    resumed.train()
    # It went on; it did not start again.
    assert seen['steps'] == saved['steps'] + 1
    straight = interruptible(tmp_path, kind)
    straight.train()
    training, expected = hook_of(resumed).training, hook_of(straight).training
    assert training.updates_done == expected.updates_done > saved['updates_done'] > 0
    assert_same(training.state_dict(), expected.state_dict(), 'masks')
    ours, theirs = load_checkpoint_file(folder / last), load_checkpoint_file(tmp_path / last)
    kinds = {'state_dict', 'optimizer', 'param_schedulers', 'dynamic_sparsity'} | ({'ema_state_dict'} & set(theirs))
    assert ('ema_state_dict' in kinds) == (kind == 'epoch')
    for name in kinds:
        assert_same(ours[name], theirs[name], name)
    for name, mask in ours['dynamic_sparsity']['masks'].items():
        assert not ours['state_dict'][name][~mask].any() and ours['state_dict'][name][mask].any()


def test_the_masks_in_the_file_need_no_pickle(tmp_path):
    run = runner(tmp_path, sparsity(), save_every=12, length=12)
    run.train()
    state = load_checkpoint_file(tmp_path / 'iter_12.pth')['dynamic_sparsity']
    torch.save(state, tmp_path / 'state.pth')
    again = torch.load(tmp_path / 'state.pth', weights_only=True)
    assert_same(again, hook_of(run).training.state_dict(), 'masks')
    assert all(mask.dtype == torch.bool and mask.device.type == 'cpu' for mask in again['masks'].values())


def test_resumed_by_the_runner_itself(tmp_path):
    """Runner.resume() leaves no mark but the iteration."""
    runner(tmp_path / 'first', sparsity(), save_every=12, length=12).train()
    run = runner(tmp_path / 'second', sparsity(), length=14)
    run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    run.resume(str(tmp_path / 'first' / 'iter_12.pth'))
    run.train()
    assert (hook_of(run).training.steps, hook_of(run).training.updates_done) == (14, 1)


def resume(folder, checkpoint, *hooks, **options):
    run = runner(folder, *hooks, resume=True, load_from=str(checkpoint), length=8, **options)
    run.train()
    return run


def test_a_checkpoint_without_masks(tmp_path):
    runner(tmp_path / 'dense', EMA, save_every=4, length=4).train()
    for hook in (sparsity(), dict(type='mmlk.DynamicSparsityHook', mode='static')):
        with pytest.raises(UsageError) as error:
            resume(tmp_path / 'sparse', tmp_path / 'dense' / 'iter_4.pth', hook)
        assert str(error.value) == (
            'a run with mmlk.DynamicSparsityHook can only resume from a checkpoint with masks, and that of iteration 4 '
            'was written without the hook: to make its weights sparse, start a new run with load_from, or remove the '
            'hook'
        )


def test_masks_that_do_not_fit(tmp_path):
    runner(tmp_path / 'first', sparsity(), save_every=4, length=4).train()
    checkpoint = tmp_path / 'first' / 'iter_4.pth'
    with pytest.raises(UsageError, match='must be of the 1 layers that are sparse here, got 4 .only there: '):
        resume(tmp_path / 'scope', checkpoint, sparsity(scope='backbone.2'))
    convolutions = sparsity(scope=r'backbone\.2')
    runner(tmp_path / 'third', convolutions, save_every=4, length=4).train()
    with pytest.raises(UsageError, match=r'The mask of backbone.2.weight must be bool of shape \(8, 1, 1, 1\), got'):
        resume(tmp_path / 'unit', tmp_path / 'third' / 'iter_4.pth', dict(convolutions, unit='kernel'))


def test_resume_without_a_checkpoint_starts_afresh(tmp_path):
    run = runner(tmp_path, sparsity(), resume=True, length=3)
    run.train()
    assert hook_of(run).training.steps == 3


@pytest.mark.parametrize('mode', ['fixed', 'static'])
def test_other_modes_resume_as_well(mode, tmp_path):
    first = sparsity(mode='fixed', sparsity=0.5, init='uniform')
    runner(tmp_path / 'first', first, save_every=4, length=4).train()
    run = resume(tmp_path / 'second', tmp_path / 'first' / 'iter_4.pth', first if mode == 'fixed' else
                 dict(type='mmlk.DynamicSparsityHook', mode='static'))  # fmt: skip
    saved = load_checkpoint_file(tmp_path / 'first' / 'iter_4.pth')['dynamic_sparsity']
    assert hook_of(run).training.steps == 8
    for name, mask in hook_of(run).training.masks.items():
        assert torch.equal(mask, saved['masks'][name])

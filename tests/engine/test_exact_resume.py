"""Runs that are cut off and resumed equal those that are not, bit by bit."""

import os
import pickle
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from children import in_children
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from resume_runs import BATCH, Pictures, differences, end_state, runner
from sparse_runs import Probe
from torch.utils.data import BatchSampler, DataLoader

from mmlk.checkpoints.resumable import find_newest_resumable
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.engine.loops import data
from mmlk.engine.loops.data import (
    BatchStream,
    Sample,
    SeededDataLoader,
    SeededDataset,
    can_be_seeded,
    shared_flag,
)
from mmlk.engine.random_state import RandomState, kept_random_state, seeded
from mmlk.errors import UsageError

pytestmark = pytest.mark.usefixtures('one_thread')

ACCUMULATING = dict(
    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2), accumulative_counts=3)
)


def kill_at(iteration):
    def kill(run, done):
        if done == iteration:
            os.kill(os.getpid(), signal.SIGKILL)

    return Probe(kill)


def train(folder, *arguments, **more):
    runner(folder, *arguments, **more).train()


def in_child(folder, *arguments, **more):
    """Train in a child; how it ended."""
    return in_children(partial(train, folder, *arguments, **more))[0]


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind', ['iteration', 'epoch', 'within epoch'])
def test_killed_twice(tmp_path, kind, workers):
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    for hooks, ending in (([kill_at(14)], -9), ([kill_at(31)], -9), ([], 0)):
        assert in_child(cut, kind, workers, hooks=hooks) == ending
    assert in_child(whole, kind, workers) == 0
    assert differences(end_state(whole), end_state(cut)) == []
    kept = ['epoch_4.pth', 'epoch_5.pth'] if kind == 'epoch' else ['iter_36.pth', 'iter_40.pth']
    if kind == 'within epoch':
        kept = ['iter_44.pth', 'iter_45.pth']
    assert sorted(path.name for path in cut.glob('*.pt*')) == kept


@pytest.mark.parametrize('kind', ['iteration', 'within epoch'])
def test_gradients_that_wait_for_a_step(tmp_path, kind):
    # Checkpoints after every fourth iteration, steps after every third.
    assert in_child(tmp_path / 'cut', kind, hooks=[kill_at(18)], **ACCUMULATING) == -9
    newest = load_checkpoint_file(tmp_path / 'cut' / 'iter_16.pth')
    assert newest['training_state']['gradients'].keys() == newest['state_dict'].keys() - {
        'ballast',
        *(name for name in newest['state_dict'] if name.startswith('norm.running') or name.endswith('tracked')),
    }
    assert in_child(tmp_path / 'cut', kind, **ACCUMULATING) == 0
    assert in_child(tmp_path / 'whole', kind, **ACCUMULATING) == 0
    assert differences(end_state(tmp_path / 'whole'), end_state(tmp_path / 'cut')) == []


def test_with_a_seed_that_was_drawn(tmp_path):
    # Each start draws another seed, and the resumed ones have to forget it.
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert in_child(first, 'iteration', seed=None, hooks=[kill_at(14)]) == -9
    shutil.copytree(first, second)
    assert in_children(*(partial(train, folder, 'iteration', seed=None) for folder in (first, second))) == [0, 0]
    assert differences(end_state(first), end_state(second)) == []


class TestSkipping:
    def test_samples_before_are_not_read(self, tmp_path):
        def reads(folder, length):
            run = runner(tmp_path / folder, 'iteration', length=length)
            run.train()
            return run.train_dataloader.dataset.reads

        first, rest = reads('cut', 12), reads('cut', 20)
        assert (len(first), len(rest)) == (12 * BATCH, 8 * BATCH)
        assert first + rest == reads('whole', 20)

    def test_at_iteration_100000(self, tmp_path):
        train(tmp_path, 'iteration', length=4)
        path = tmp_path / 'iter_4.pth'
        checkpoint = load_checkpoint_file(path)
        checkpoint['meta']['iter'] = 100_000
        torch.save(checkpoint, tmp_path / 'iter_100000.pth')
        run = runner(tmp_path, 'iteration', length=100_002)
        run.train()
        assert run.iter == 100_002
        # Those of two batches; validation has a data set of its own.
        assert len(run.train_dataloader.dataset.reads) == 2 * BATCH

    def test_a_finite_sampler_starts_over_without_a_pause(self):
        sampler = DefaultSampler(range(5), shuffle=True, seed=3)
        batches = BatchSampler(sampler, 2, drop_last=False)
        stream = BatchStream(batches, sampler, seed=0, endless=True)
        taken = [batch for batch, _ in zip(stream, range(7))]
        expected = []
        for epoch in range(3):
            sampler.set_epoch(epoch)
            expected += list(batches)
        assert [[sample.index for sample in batch] for batch in taken] == expected[:7]
        assert [sample.key for batch in taken for sample in batch] == [(0, 0, place) for place in range(12)]
        for skip in (1, 3, 5):
            stream.skip = skip
            assert [batch for batch, _ in zip(stream, range(7 - skip))] == taken[skip:]

    def test_an_infinite_sampler_starts_at_its_beginning(self):
        sampler = InfiniteSampler(range(7), seed=1)
        stream = BatchStream(BatchSampler(sampler, 2, drop_last=True), sampler, seed=0, endless=True)
        first = [batch for batch, _ in zip(stream, range(9))]
        assert [batch for batch, _ in zip(stream, range(9))] == first
        assert len({sample.index for batch in first[:7] for sample in batch}) == 7

    def test_keys_do_not_depend_on_the_number_of_processes(self, monkeypatch):
        def samples(world_size, size):
            found = []
            for rank in range(world_size):
                for name, value in (('get_rank', rank), ('get_world_size', world_size)):
                    monkeypatch.setattr(data, name, lambda value=value: value)
                monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, world_size))
                sampler = InfiniteSampler(range(10), seed=1)
                stream = BatchStream(BatchSampler(sampler, size, drop_last=True), sampler, seed=5, endless=True)
                found.append([batch for batch, _ in zip(stream, range(6))])
            # What all processes do in an iteration.
            return [{sample for batch in batches for sample in batch} for batches in zip(*found)]

        assert samples(1, 4) == samples(2, 2) == samples(4, 1)

    def test_an_epoch_without_samples_ends(self):
        assert list(BatchStream([], range(0), seed=0, endless=True)) == []


class TestSamples:
    def test_augmented_alike_in_any_order_and_apart_from_the_rest(self):
        dataset = SeededDataset(Pictures())
        samples = [Sample(index, (0, 0, place)) for place, index in enumerate((3, 3, 4))]
        before = RandomState.now()
        first = [dataset[sample]['inputs'] for sample in samples]
        assert differences(RandomState.now().state_dict(), before.state_dict()) == []
        assert not torch.equal(first[0], first[1])
        for sample, picture in reversed(list(zip(samples, first))):
            assert torch.equal(dataset[sample]['inputs'], picture)
        # Without a seed, as hooks ask for samples, it is the data set itself.
        with seeded((7,)):
            plain = Pictures()[2]['inputs']
        with seeded((7,)):
            assert torch.equal(dataset[2]['inputs'], plain)

    def test_attributes_are_those_of_the_data_set(self):
        inner = Pictures()
        dataset = SeededDataset(inner)
        dataset.pipeline = 'other'
        assert inner.pipeline == 'other' and dataset.size == inner.size and len(dataset) == len(inner)
        with pytest.raises(AttributeError):
            dataset.metainfo  # noqa: B018
        # torch would hand it all indices at once, past the seeds.
        inner.__getitems__ = list
        assert not hasattr(dataset, '__getitems__')

    def test_reaches_workers_that_have_to_unpickle_it(self):
        dataset = pickle.loads(pickle.dumps(SeededDataset(Pictures())))  # ours, written here
        assert dataset.size == len(dataset)

    def test_batches_in_workers_are_those_of_the_main_process(self):
        found = []
        for workers in (0, 2):
            loader = DataLoader(Pictures(), batch_size=4, num_workers=workers, shuffle=False)
            assert can_be_seeded(loader)
            loader = SeededDataLoader(loader, seed=1, endless=False, running=shared_flag())
            loader.move_to(epoch=2, skip=1)
            before = torch.get_rng_state()
            found.append([batch['inputs'] for batch in loader])
            assert torch.equal(torch.get_rng_state(), before)
            assert len(loader) == 5 and loader.batch_size == 4
        assert differences(*found) == []
        assert len(found[0]) == 4

    def test_without_indices(self):
        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                return iter(range(3))

        assert not can_be_seeded(DataLoader(Stream()))
        assert not can_be_seeded(DataLoader(Pictures(), batch_size=None))


def test_validation_leaves_no_trace(tmp_path):
    train(tmp_path / 'with', 'iteration')
    nothing = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    train(tmp_path / 'without', 'iteration', **nothing)
    first, second = end_state(tmp_path / 'with'), end_state(tmp_path / 'without')
    assert first['scalars'].pop('val/mean')
    assert differences(first, second) == []


class CutOff(Exception):
    pass


class CutOffInValidation(Hook):
    def after_val_iter(self, runner, **kwargs):
        if runner.iter == 20:
            raise CutOff


def test_validation_that_was_cut_off_is_made_up_for(tmp_path):
    # The checkpoint of iteration 20 is there, its validation is not.
    with pytest.raises(CutOff):
        train(tmp_path / 'cut', 'iteration', hooks=[CutOffInValidation()])
    train(tmp_path / 'cut', 'iteration')
    train(tmp_path / 'whole', 'iteration')
    whole, cut = end_state(tmp_path / 'whole'), end_state(tmp_path / 'cut')
    assert len(whole['scalars']['val/mean']) == 3
    assert differences(whole, cut) == []


class TestOtherCheckpoints:
    def test_loaded_for_its_weights(self, tmp_path):
        train(tmp_path / 'first', 'iteration', length=8)
        run = runner(tmp_path / 'second', 'iteration', length=4, load_from=str(tmp_path / 'first' / 'iter_8.pth'))
        run.train()
        assert run.iter == 4
        assert run.train_loop.dataloader.batch_sampler.skip == 0
        assert find_newest_resumable(tmp_path / 'second')[0].name == 'iter_4.pth'

    def test_of_the_hook_of_mmengine(self, tmp_path):
        hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4))
        train(tmp_path, 'iteration', length=8, default_hooks=hooks)
        run = runner(tmp_path, 'iteration', length=12)
        run.train()
        assert run.iter == 12
        assert 'has no random state' in _log(run)

    def test_of_another_number_of_processes(self, tmp_path):
        self.alter(tmp_path, lambda state: state.update(random=state['random'] * 2))
        run = runner(tmp_path, 'iteration', length=12)
        run.train()
        assert 'written by 2 processes and there are 1 now' in _log(run)

    @pytest.mark.parametrize(
        'change',
        [
            dict(random='words'),
            dict(random=[dict(python=1)]),
            dict(batches='many'),
            dict(seeds=3),
            dict(gradients=None),
        ],
        ids=lambda change: '-'.join(change),
    )
    def test_that_is_damaged(self, tmp_path, change):
        self.alter(tmp_path, lambda state: state.update(change))
        with pytest.raises(UsageError, match="expected 'training_state' of the checkpoint"):
            runner(tmp_path, 'iteration', length=12).train()

    def test_with_states_that_no_generator_takes(self, tmp_path):
        def change(state):
            state['random'][0]['torch'] = torch.zeros(3, dtype=torch.uint8)

        self.alter(tmp_path, change)
        with pytest.raises(UsageError, match='random states in the checkpoint that the generators take'):
            runner(tmp_path, 'iteration', length=12).train()

    @staticmethod
    def alter(folder, change):
        train(folder, 'iteration', length=4)
        path = folder / 'iter_4.pth'
        checkpoint = load_checkpoint_file(path)
        change(checkpoint['training_state'])
        torch.save(checkpoint, path)


def test_random_state_survives_a_file(tmp_path):
    torch.save(RandomState.now().state_dict(), tmp_path / 'state.pth')
    state = RandomState.from_state_dict(load_checkpoint_file(tmp_path / 'state.pth'))
    with kept_random_state():
        expected = (torch.rand(3), np.random.random(3))
    torch.rand(1)
    np.random.random()
    with kept_random_state():
        state.restore()
        assert differences((torch.rand(3), np.random.random(3)), expected) == []


def _log(run):
    return Path(run.log_dir, f'{run.timestamp}.log').read_text()

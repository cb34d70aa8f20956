"""Checkpoints are whole at any moment, at least two are kept, and a full disk does not end a run."""

import os
import resource
from functools import partial
from pathlib import Path

import pytest
from children import in_children
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.runner import Runner
from resume_runs import runner
from sparse_runs import Probe

from mmlk.checkpoints.resumable import find_newest_resumable, load_resumable
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.engine import CheckpointHook
from mmlk.errors import UsageError

pytestmark = pytest.mark.usefixtures('one_thread')

#: Iterations after which the metric is what.
SCORES = {10: 1.0, 20: 3.0, 30: 2.0, 40: 4.0}


@METRICS.register_module()
class Scores(BaseMetric):
    """The metric of `SCORES`, and its negative."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        from mmengine.logging import MessageHub

        score = SCORES[MessageHub.get_current_instance().get_info('iter') + 1]
        return dict(high=score, low=-score)


def hooks(**arguments):
    return dict(checkpoint=dict(type='mmlk.CheckpointHook', by_epoch=False, interval=4) | arguments)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.is_file() and path.suffix != '.py')


def whole(folder):
    """Names of the files that look like checkpoints and are."""
    found = [path for path in Path(folder).glob('*.pth') if not path.name.startswith('best')]
    for path in found:
        load_resumable(path)
    return sorted(path.name for path in found)


class TestRotation:
    @pytest.mark.parametrize(('asked', 'kept'), [(1, [36, 40]), (2, [36, 40]), (3, [32, 36, 40])])
    def test_at_least_two(self, tmp_path, asked, kept):
        runner(tmp_path, 'iteration', default_hooks=hooks(max_keep_ckpts=asked)).train()
        assert whole(tmp_path) == [f'iter_{number}.pth' for number in kept]
        assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_40.pth')

    def test_all_by_default(self, tmp_path):
        runner(tmp_path, 'iteration', length=12, default_hooks=hooks()).train()
        assert whole(tmp_path) == ['iter_12.pth', 'iter_4.pth', 'iter_8.pth']

    def test_old_ones_go_after_the_new_one_is_there(self, tmp_path, monkeypatch):
        seen = []
        save = Runner.save_checkpoint

        def watched(self, out_dir, filename, *arguments, **more):
            seen.append((whole(out_dir), filename))
            save(self, out_dir, filename, *arguments, **more)
            seen.append((whole(out_dir), filename))

        monkeypatch.setattr(Runner, 'save_checkpoint', watched)
        runner(tmp_path, 'iteration', length=16, default_hooks=hooks(max_keep_ckpts=2)).train()
        assert [found for found, _ in seen[4:]] == [['iter_4.pth', 'iter_8.pth']] * 2 + [
            ['iter_12.pth', 'iter_8.pth']
        ] * 2
        assert all(name.startswith('iter_') and name.endswith(f'.pth.{os.getpid()}.part') for _, name in seen)

    def test_goes_on_after_a_resume(self, tmp_path):
        arguments = dict(default_hooks=hooks(max_keep_ckpts=2))
        runner(tmp_path, 'iteration', length=12, **arguments).train()
        runner(tmp_path, 'iteration', length=16, **arguments).train()
        assert whole(tmp_path) == ['iter_12.pth', 'iter_16.pth']

    def test_takes_over_that_of_mmengine(self, tmp_path):
        stock = hooks(type='CheckpointHook', max_keep_ckpts=2)
        runner(tmp_path, 'iteration', length=8, default_hooks=stock).train()
        runner(tmp_path, 'iteration', length=16, default_hooks=hooks(max_keep_ckpts=2)).train()
        assert whole(tmp_path) == ['iter_12.pth', 'iter_16.pth']


def test_leftovers_of_a_killed_run_go_and_nothing_else(tmp_path):
    for name in (
        'iter_4.pth.123.part',
        'best_mIoU_iter_4.pth.99.part',
        'last_checkpoint.7.part',
        'mine.part',
        'o.pth.part',
    ):
        (tmp_path / name).write_bytes(b'half')
    runner(tmp_path, 'iteration', length=4).train()
    assert names(tmp_path) == ['iter_4.pth', 'last_checkpoint', 'mine.part', 'o.pth.part']


class TestFullDisk:
    """The system refuses files above a size, as a full disk does."""

    @staticmethod
    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def probe(self, filled, freed=None):
        def change(run, done):
            if done == filled:
                self.limit(100_000)
            elif done == freed:
                self.limit(resource.RLIM_INFINITY)

        return Probe(change)

    def test_tries_again(self, tmp_path):
        def train():
            arguments = hooks(max_keep_ckpts=2, retry_interval=3)
            probe = self.probe(filled=9, freed=14)
            runner(tmp_path, 'iteration', length=22, ballast=1, default_hooks=arguments, hooks=[probe]).train()

        assert in_children(train) == [0]
        log = next(tmp_path.glob('*/*.log')).read_text()
        # 12 fails, 15 is the attempt after it; 16 and 20 are regular, 22 is the end.
        assert f'the checkpoint {tmp_path}/iter_12.pth could not be written ([Errno 27] File too large)' in log
        assert f'the last whole one is {tmp_path}/iter_8.pth; trying again in 3 iterations' in log
        assert log.count('could not be written') == 1
        assert whole(tmp_path) == ['iter_20.pth', 'iter_22.pth']
        assert names(tmp_path) == ['iter_20.pth', 'iter_22.pth', 'last_checkpoint']

    def test_at_the_end(self, tmp_path):
        def train():
            arguments = hooks(max_keep_ckpts=2)
            with pytest.raises(UsageError, match='iter_12.pth could not be written.*make room or permit writing'):
                probe = self.probe(filled=9)
                runner(tmp_path, 'iteration', length=12, ballast=1, default_hooks=arguments, hooks=[probe]).train()

        assert in_children(train) == [0]
        assert names(tmp_path) == ['iter_4.pth', 'iter_8.pth', 'last_checkpoint']
        assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_8.pth')
        # With room again, the run goes on.
        assert in_children(partial(self.train_on, tmp_path)) == [0]
        assert whole(tmp_path) == ['iter_12.pth', 'iter_8.pth']

    @staticmethod
    def train_on(folder):
        runner(folder, 'iteration', length=12, ballast=1, default_hooks=hooks(max_keep_ckpts=2)).train()


class TestBest:
    def train(self, folder, length=40, **arguments):
        arguments = hooks(interval=10, **arguments)
        run = runner(folder, 'iteration', length=length, default_hooks=arguments, val_evaluator=dict(type='Scores'))
        run.train()
        return run

    def test_one_indicator(self, tmp_path):
        self.train(tmp_path, length=30, save_best='high', rule='greater')
        assert [path.name for path in tmp_path.glob('best*')] == ['best_high_iter_20.pth']
        best = load_checkpoint_file(tmp_path / 'best_high_iter_20.pth')
        assert 'optimizer' not in best and 'training_state' not in best
        # The regular checkpoint of that iteration knows of it.
        info = load_checkpoint_file(tmp_path / 'iter_20.pth')['message_hub']['runtime_info']
        assert (info['best_score'], info['best_ckpt']) == (3.0, str(tmp_path / 'best_high_iter_20.pth'))
        assert load_checkpoint_file(tmp_path / 'iter_20.pth')['training_state']['validated']
        assert not load_checkpoint_file(tmp_path / 'iter_30.pth')['training_state']['validated']

    def test_several_and_after_a_resume(self, tmp_path):
        arguments = dict(save_best=['high', 'low'], rule=['greater', 'less'])
        self.train(tmp_path, length=20, **arguments)
        assert sorted(path.name for path in tmp_path.glob('best*')) == ['best_high_iter_20.pth', 'best_low_iter_20.pth']
        self.train(tmp_path, length=30, **arguments)
        assert sorted(path.name for path in tmp_path.glob('best*')) == ['best_high_iter_20.pth', 'best_low_iter_20.pth']
        self.train(tmp_path, length=40, **arguments)
        assert sorted(path.name for path in tmp_path.glob('best*')) == ['best_high_iter_40.pth', 'best_low_iter_40.pth']

    def test_the_old_one_goes_after_the_new_one_is_there(self, tmp_path, monkeypatch):
        seen = []
        save = Runner.save_checkpoint

        def watched(self, out_dir, filename, *arguments, **more):
            save(self, out_dir, filename, *arguments, **more)
            if filename.startswith('best'):
                seen.append(sorted(path.name for path in Path(out_dir).glob('best*.pth')))

        monkeypatch.setattr(Runner, 'save_checkpoint', watched)
        self.train(tmp_path, save_best='auto', rule='greater')
        assert seen == [[], ['best_high_iter_10.pth'], ['best_high_iter_20.pth']]


def test_another_folder(tmp_path):
    out = tmp_path / 'elsewhere'
    runner(tmp_path / 'run', 'iteration', length=8, default_hooks=hooks(out_dir=str(out))).train()
    assert whole(out / 'run') == ['iter_4.pth', 'iter_8.pth']
    assert find_newest_resumable(tmp_path / 'run') == (out / 'run' / 'iter_8.pth', [])


def test_without_our_loop(tmp_path):
    run = runner(tmp_path, 'iteration', length=4, train_cfg=dict(type='IterBasedTrainLoop', max_iters=4))
    run.train()
    assert 'training_state' not in load_resumable(tmp_path / 'iter_4.pth')


def test_arguments_are_those_of_mmengine():
    hook = CheckpointHook(interval=3, by_epoch=False, save_best='auto', max_keep_ckpts=5)
    assert (hook.interval, hook.by_epoch, hook.save_best, hook.keep) == (3, False, ['auto'], 5)

"""Signals end a run after the iteration, with a checkpoint from which it goes on exactly."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from children import ending, fork, in_children
from mmengine.hooks import Hook
from resume_runs import differences, end_state, runner
from sparse_runs import Probe

from mmlk.cli.errors import one_sentence
from mmlk.engine.loops.data import WorkerStart, shared_flag
from mmlk.engine.loops.stopping import StopRequest
from mmlk.errors import TrainingStopped

pytestmark = pytest.mark.usefixtures('one_thread')


def signal_at(iteration, number, to=os.kill, times=1):
    """A hook that sends this process, or its group, a signal in an iteration."""

    def send(run, done):
        if done == iteration:
            for _ in range(times):
                to(os.getpid(), number)
                # The handler runs when the interpreter gets to it.
                time.sleep(0.05)

    return Probe(send)


class SignalInValidation(Hook):
    """Sends this process SIGTERM in the validation after iteration 20."""

    def after_val_iter(self, runner, **kwargs):
        if runner.iter == 20:
            os.kill(os.getpid(), signal.SIGTERM)


def train(folder, *arguments, log=None, group=False, **more):
    """Train as tools/train.py does, with what it prints in a file."""
    if group:
        os.setsid()
    if log is not None:
        # Handlers of signals write to the descriptor, everything else to the stream.
        sys.stderr = log.open('w', buffering=1)
        os.dup2(sys.stderr.fileno(), 2)
    with one_sentence():
        runner(folder, *arguments, **more).train()


@pytest.fixture(scope='module', params=['iteration', 'epoch'])
def whole(request, tmp_path_factory):
    """An uninterrupted run: its kind and its end."""
    folder = tmp_path_factory.mktemp('whole')
    assert in_children(partial(train, folder, request.param)) == [0]
    return request.param, end_state(folder)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize('iteration', [7, 18], ids=['within', 'at the end of an epoch'])
def test_saves_and_leaves(tmp_path, whole, number, iteration):
    kind, expected = whole
    folder, log = tmp_path / 'run', tmp_path / 'log'
    stopped = partial(train, folder, kind, hooks=[signal_at(iteration, number)], log=log)
    assert in_children(stopped) == [128 + number]
    assert f'{number.name}: finishing the iteration' in log.read_text()
    error = log.read_text().splitlines()[-1]
    assert error == (
        f'error: stopped by {number.name}: iteration {iteration} is saved in {folder}/iter_{iteration}.pth; continue '
        'with the same command and --resume'
    )
    assert in_children(partial(train, folder, kind)) == [0]
    assert differences(expected, end_state(folder)) == []


def test_all_processes_of_a_run_get_the_signal(tmp_path, whole):
    # As from a terminal or a job scheduler: the workers must live until the main process is done with them.
    kind, expected = whole
    folder = tmp_path / 'run'
    hooks = [signal_at(7, signal.SIGTERM, to=os.killpg)]
    assert in_children(partial(train, folder, kind, workers=2, hooks=hooks, group=True)) == [128 + signal.SIGTERM]
    assert (folder / 'iter_7.pth').is_file()
    assert in_children(partial(train, folder, kind, workers=2)) == [0]
    found = end_state(folder)
    # In the process or in workers, the data of the validation draws its random numbers from different generators.
    assert found['scalars'].pop('val/mean') and differences(found, expected | dict(scalars=found['scalars'])) == []


def test_in_an_iteration_that_is_saved_anyway(tmp_path):
    folder, log = tmp_path / 'run', tmp_path / 'log'
    hooks = [signal_at(8, signal.SIGTERM)]
    assert in_children(partial(train, folder, 'iteration', hooks=hooks, log=log)) == [143]
    assert 'iteration 8 is saved' in log.read_text()
    assert sorted(path.name for path in folder.glob('*.pth')) == ['iter_4.pth', 'iter_8.pth']


def test_a_second_signal_stops_at_once(tmp_path):
    folder, log = tmp_path / 'run', tmp_path / 'log'
    hooks = [signal_at(7, signal.SIGINT, times=2)]
    assert in_children(partial(train, folder, 'iteration', hooks=hooks, log=log)) == [130]
    assert log.read_text().splitlines()[-1].startswith('error: stopped by SIGINT: nothing was saved since the last')
    assert [path.name for path in folder.glob('*.pth')] == ['iter_4.pth']


def test_during_validation(tmp_path):
    folder, log, expected = tmp_path / 'run', tmp_path / 'log', tmp_path / 'whole'
    assert in_children(partial(train, folder, 'iteration', hooks=[SignalInValidation()], log=log)) == [143]
    assert 'nothing was saved since' in log.read_text()
    assert in_children(*(partial(train, each, 'iteration') for each in (folder, expected))) == [0, 0]
    assert differences(end_state(expected), end_state(folder)) == []


def test_from_outside_while_workers_read(tmp_path):
    folder = tmp_path / 'run'
    child = fork(partial(train, folder, 'iteration', workers=2, length=100_000, log=tmp_path / 'log'))
    end = time.monotonic() + 60
    while not (folder / 'iter_4.pth').is_file() and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    assert ending(child) == 143
    assert 'is saved in' in (tmp_path / 'log').read_text()


class TestWorkers:
    """They outlive a signal to all processes while the training runs, and no longer."""

    @staticmethod
    def worker(running, ready):
        WorkerStart(lambda number: ready.set(), running)(0)
        time.sleep(60)

    @pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
    def test_signals(self, number):
        context = torch.multiprocessing.get_context('fork')
        running, ready = shared_flag(), context.Event()
        running.value = 1
        process = context.Process(target=self.worker, args=(running, ready), daemon=True)
        process.start()
        assert ready.wait(60)
        os.kill(process.pid, number)
        process.join(0.3)
        assert process.is_alive()
        running.value = 0
        start = time.monotonic()
        process.terminate()
        process.join(20)
        assert process.exitcode == 0 and time.monotonic() - start < 20

    def test_do_not_outlive_a_main_process_that_is_killed(self, tmp_path):
        child = fork(partial(train, tmp_path / 'run', 'iteration', workers=2, length=100_000, log=tmp_path / 'log'))
        end = time.monotonic() + 60
        while not (tmp_path / 'run' / 'iter_4.pth').is_file() and time.monotonic() < end:
            time.sleep(0.01)
        workers = [int(name) for name in Path(f'/proc/{child}/task/{child}/children').read_text().split()]
        assert len(workers) >= 2
        os.kill(child, signal.SIGKILL)
        assert ending(child) == -signal.SIGKILL
        end = time.monotonic() + 10
        while any(_runs(worker) for worker in workers) and time.monotonic() < end:
            time.sleep(0.01)
        assert not any(_runs(worker) for worker in workers)

    def test_of_training_and_validation(self, tmp_path):
        run = runner(tmp_path, 'iteration', workers=2, length=10)
        before = set(torch.multiprocessing.active_children())
        run.train()
        # torch would leave them to the end of the process.
        assert set(torch.multiprocessing.active_children()) <= before
        starts = [loader.worker_init_fn for loader in (run.train_dataloader, run.val_dataloader)]
        assert all(isinstance(start, WorkerStart) for start in starts)
        assert not starts[0].running.value


def test_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    runner(tmp_path, 'iteration', length=2).train()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


class TestSeveralProcesses:
    """All stop where the first question after the signal finds it out."""

    @pytest.fixture(autouse=True)
    def two(self, monkeypatch):
        name = 'mmlk.engine.loops.stopping.'
        monkeypatch.setattr(name + 'get_world_size', lambda: 2)
        self.asked = []

        def all_reduce(number, op):
            self.asked.append(op)
            number.fill_(max(int(number), self.other))

        monkeypatch.setattr(name + 'all_reduce', all_reduce)
        self.other = 0

    @pytest.mark.parametrize(('backend', 'asks'), [('gloo', 20), ('nccl', 2)])
    def test_asks(self, monkeypatch, backend, asks):
        monkeypatch.setattr('torch.distributed.get_backend', lambda: backend)
        request = StopRequest()
        assert not any(request.agreed(iteration) for iteration in range(1, 21))
        assert self.asked == ['max'] * asks
        self.other = signal.SIGTERM
        assert [iteration for iteration in range(21, 31) if request.agreed(iteration)][0] == (21 if asks > 2 else 30)
        assert str(request.stopped('all of it')).startswith('stopped by SIGTERM: all of it; continue')

    def test_one_says_why(self, monkeypatch):
        monkeypatch.setattr('mmlk.engine.loops.stopping.get_rank', lambda: 1)
        request = StopRequest()
        request.number = signal.SIGTERM
        assert isinstance(request.stopped('it'), TrainingStopped)
        assert (str(request.stopped('it')), request.stopped('it').status) == ('', 143)


def _runs(process):
    """Whether a process is there and is no zombie that nobody has waited for."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False

"""What a user sees instead of a traceback."""

import logging
from types import SimpleNamespace

import pytest

from mmlk.cli.errors import FAILED_STATUS, INTERRUPT_STATUS, USAGE_STATUS, one_sentence
from mmlk.errors import TrainingStopped, UsageError


@pytest.mark.parametrize('settings', [{}, {'interrupted': 'stopped; continue with --resume'}], ids=['plain', 'hint'])
def test_interrupt_names_only_what_the_tool_has(settings, capsys):
    with pytest.raises(SystemExit) as stop, one_sentence(**settings):
        raise KeyboardInterrupt
    assert stop.value.code == INTERRUPT_STATUS
    assert capsys.readouterr().err == f'\n{settings.get("interrupted", "stopped")}\n'


def test_user_error_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop, one_sentence(ValueError):
        raise UsageError('expected a, got b')
    assert stop.value.code == USAGE_STATUS
    assert capsys.readouterr().err == 'error: expected a, got b\n'


def test_other_errors_pass():
    with pytest.raises(RuntimeError), one_sentence(ValueError):
        raise RuntimeError('ours')


class TestRunner:
    """Whatever stops a run is one sentence; the traceback of a long one is kept."""

    @pytest.fixture
    def runner(self, tmp_path):
        logger = logging.Logger('run')
        logger.addHandler(logging.FileHandler(tmp_path / 'run.log'))
        return SimpleNamespace(_train_loop=SimpleNamespace(iter=0), logger=logger)

    def stop(self, runner, done, error=None):
        with pytest.raises(SystemExit) as stop, one_sentence(runner=runner):
            runner._train_loop.iter += done
            raise error or RuntimeError('shapes do not fit')
        return stop.value.code

    def test_first_iteration(self, runner, capsys, tmp_path):
        assert self.stop(runner, 0) == USAGE_STATUS
        assert capsys.readouterr().err == ('error: shapes do not fit (RuntimeError; MMLK_TRACEBACK=1 shows where)\n')
        assert (tmp_path / 'run.log').read_text() == ''

    def test_later(self, runner, capsys, tmp_path):
        assert self.stop(runner, 7) == FAILED_STATUS
        log = tmp_path / 'run.log'
        assert capsys.readouterr().err == (
            f'error: stopped after iteration 7: shapes do not fit (RuntimeError; traceback in {log})\n'
        )
        assert 'Traceback' in log.read_text() and 'RuntimeError: shapes do not fit' in log.read_text()

    def test_later_without_a_log(self, runner, capsys):
        runner.logger.handlers.clear()
        assert self.stop(runner, 7) == FAILED_STATUS
        assert 'Traceback' in capsys.readouterr().err

    def test_user_error_later(self, runner, capsys):
        assert self.stop(runner, 7, UsageError('a.jpg is empty')) == USAGE_STATUS
        assert capsys.readouterr().err == 'error: a.jpg is empty\n'

    def test_a_test_has_no_iterations(self, runner, capsys):
        # What the runner of a test has there is the config of a loop that is never built.
        runner._train_loop = dict(max_iters=5)
        with pytest.raises(SystemExit) as stop, one_sentence(runner=runner):
            raise IndexError('too many indices')
        assert stop.value.code == USAGE_STATUS

    def test_traceback_on_demand(self, runner, monkeypatch):
        monkeypatch.setenv('MMLK_TRACEBACK', '1')
        with pytest.raises(RuntimeError), one_sentence(runner=runner):
            raise RuntimeError('shapes do not fit')

    def test_stopped_on_purpose(self, runner):
        assert self.stop(runner, 7, TrainingStopped('the disk is full', 3)) == 3

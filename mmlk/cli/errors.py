"""One sentence instead of a traceback, where a user can correct the mistake."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmlk.cli.sentences import sentence_of
from mmlk.errors import TrainingStopped, UsageError
from mmlk.launcher import is_lost_process, may_speak, rank_of_process

if TYPE_CHECKING:
    from mmengine.runner import Runner

#: Status of a command that was used wrongly, as argparse has it.
USAGE_STATUS = 2
INTERRUPT_STATUS = 130
FAILED_STATUS = 1

#: Mistakes in a config surface as anything while things are built from it: some libraries raise plain Exception.
BUILD_ERRORS = (Exception,)


@contextmanager
def one_sentence(
    *errors: type[BaseException], interrupted: str = 'stopped', runner: Runner | None = None
) -> Iterator[None]:
    """Print user errors as ``error: ...`` and exit with status 2; other exceptions pass.

    A run that was stopped (:class:`~mmlk.errors.TrainingStopped`) says why and exits with the status it names.

    Args:
        *errors: Exceptions that count as user errors besides :class:`UsageError`, missing files and unsafe checkpoints.
        interrupted: What to print on Ctrl-C.
        runner: What runs. Whatever stops it becomes one sentence: in its first iteration as a mistake in the config or
            the data, later with status 1 and with the traceback in the log file, since nobody wants to repeat the run
            only to see it.

    ``MMLK_TRACEBACK=1`` lets every exception through. Ctrl-C exits with status 130.
    """
    first = _iteration(runner)
    try:
        yield
    except KeyboardInterrupt:
        print(f'\n{interrupted}', file=sys.stderr)
        sys.exit(INTERRUPT_STATUS)
    except TrainingStopped as stop:
        if str(stop):
            print(f'error: {stop}', file=sys.stderr)
        sys.exit(stop.status)
    except Exception as error:
        usual = isinstance(error, (UsageError, FileNotFoundError, pickle.UnpicklingError, *errors))
        lost = is_lost_process(error)
        if os.environ.get('MMLK_TRACEBACK') or not (usual or runner or lost):
            raise
        text = sentence_of(error)
        status = USAGE_STATUS
        if lost:
            text = f'another process of this run has ended or does not answer, see what it has said; {interrupted}'
            status = FAILED_STATUS
        elif not usual and _iteration(runner) > first:
            text = (
                f'stopped after iteration {_iteration(runner)}: {text} ({type(error).__name__}; {_note(error, runner)})'
            )
            status = FAILED_STATUS
        elif not isinstance(error, (UsageError, OSError, pickle.UnpicklingError)):
            text += f' ({type(error).__name__}; MMLK_TRACEBACK=1 shows where)'
        if may_speak():
            who = f'process {rank_of_process()}: ' if rank_of_process() else ''
            print(f'error: {who}{text}', file=sys.stderr)
        sys.exit(status)


def _iteration(runner: Runner | None) -> int:
    """Iterations of training that a runner has done; asking for ``runner.iter`` would build a training loop."""
    return getattr(getattr(runner, '_train_loop', None), 'iter', 0)


def _note(error: Exception, runner: Runner) -> str:
    """Write the traceback to the log files of a run, and say so; where it has none, to the terminal."""
    lines = ''.join(traceback.format_exception(error))
    files = [handler for handler in runner.logger.handlers if isinstance(handler, logging.FileHandler)]
    if not files:
        print(lines, file=sys.stderr)
        return 'traceback above'
    for handler in files:
        handler.handle(runner.logger.makeRecord(runner.logger.name, logging.ERROR, __file__, 0, lines, (), None))
    return f'traceback in {files[0].baseFilename}'

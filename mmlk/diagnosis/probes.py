"""Run the steps of the worker in processes of their own, and go on where one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmlk.diagnosis.worker import MARK, STEPS

#: Seconds for all steps together; on two slow cores they take 30.
TIMEOUT = 300.0
#: Where ``mmlk`` lies, for where it is not installed.
ROOT = Path(__file__).resolve().parents[2]
#: Lines of the error stream that are kept of a process that died.
KEPT_LINES = 3


@dataclass(frozen=True)
class Step:
    """What came out of a step.

    Attributes:
        name: One of :data:`mmlk.diagnosis.worker.STEPS`.
        ok: Whether it came to its end.
        error: What went wrong otherwise.
        facts: What it found.
        seconds: How long it took.
    """

    name: str
    ok: bool
    error: str = ''
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def missing(self) -> str | None:
        """The module that was not found, where that is what went wrong."""
        start = "ModuleNotFoundError: No module named '"
        # The last cause is the deepest.
        last = self.error.rpartition(' <- ')[2]
        for text in (last, self.error):
            if text.startswith(start):
                return text[len(start) :].partition("'")[0]
        return None


def run_steps(
    names: Sequence[str] = tuple(STEPS),
    timeout: float = TIMEOUT,
    advance: Callable[[str], object] = lambda name: None,
) -> dict[str, Step]:
    """Run steps one after the other; a crash or a hang is the end of its step alone.

    Args:
        names: Steps.
        timeout: Seconds for each process; there is one more for every crash.
        advance: Called with the name of a step when its process begins.
    """
    results: dict[str, Step] = {}
    pending = list(names)
    while pending:
        advance(pending[0])
        found, died = _run(pending, timeout)
        for step in found:
            results[step.name] = step
        pending = [name for name in pending if name not in results]
        if pending:
            # The process did not come to the end: the first that has no result is to blame.
            results[pending[0]] = Step(pending[0], False, died or 'the process ended without a word')
            pending = pending[1:]
    return {name: results[name] for name in names}


def _run(names: Sequence[str], timeout: float) -> tuple[list[Step], str]:
    """Steps that came to an end in one process, and how it died, if it did."""
    # -c puts the current folder first, where a folder called like a package would stand in for it.
    code = (
        f'import sys; sys.path[:] = [p for p in sys.path if p] + [{str(ROOT)!r}]; '
        'from mmlk.diagnosis.worker import main; main(sys.argv[1:])'
    )
    flags = getattr(subprocess, '_args_from_interpreter_flags', list)()
    command = [sys.executable, *flags, '-c', code, *names]
    environment = os.environ | {'PYTHONFAULTHANDLER': '1', 'PYTHONIOENCODING': 'utf-8:replace'}
    try:
        # Streams of bytes: packages may print anything.
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=timeout
        )
        output, died = result.stdout, _death(result.returncode, result.stderr)
    except subprocess.TimeoutExpired as error:
        output, died = error.stdout or b'', f'still busy after {timeout:g} s'
    except OSError as error:
        return [], f'no process could be started ({error})'
    return _parse(output.decode('utf-8', 'replace')), died


def _parse(output: str) -> list[Step]:
    steps = []
    # Not splitlines, which separates at the mark.
    for line in output.split('\n'):
        if not line.startswith(MARK):
            continue
        said = json.loads(line[len(MARK) :])
        if said['state'] != 'begin':
            ok = said['state'] == 'done'
            steps.append(Step(said['step'], ok, said.get('error', ''), said.get('facts', {}), said['seconds']))
    return steps


def _death(code: int, errors: bytes) -> str:
    if code == 0:
        return ''
    if code < 0:
        try:
            what = f'the process was killed by {signal.Signals(-code).name}'
        except ValueError:
            what = f'the process was killed by signal {-code}'
    else:
        what = f'the process ended with status {code}'
    lines = [line.strip() for line in errors.decode('utf-8', 'replace').splitlines() if line.strip()]
    # Where Python noticed its death it says in which lines, the innermost first.
    where = [line for line in lines if line.startswith('File "')][:KEPT_LINES]
    last = where or lines[-KEPT_LINES:]
    return f'{what}: {" | ".join(last)}' if last else what

"""The result file of a run in the making: on the disk after every row, and continued by a later run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

from mmlk.benchmarks.results import find_errors, write_results
from mmlk.errors import UsageError

#: What must not change between two runs whose rows stand in one file.
_OF_THE_RUN = ('device', 'machine', 'versions', 'flags', 'commit')
_OF_THE_SETTINGS = ('op', 'backend', 'seconds')


class Collection:
    """Rows of one result file of ``tools/benchmark_ops.py``.

    While it is measured the rows stand in ``FILE.part``, a valid result file of its own that is replaced as a whole
    after every row; :meth:`finish` writes ``FILE`` and removes it. Whatever stops the run, the rows before stay.

    Args:
        path: The result file; ``None`` writes nothing.
        results: The file without ``rows`` and ``ceilings``.
        resume: Begin with the rows of an earlier run, from ``FILE.part`` or, where there is none, ``FILE``.

    Raises:
        UsageError: The earlier file is none, or was measured elsewhere or otherwise.
    """

    def __init__(self, path: Path | None, results: dict, resume: bool = False) -> None:
        self.path = path
        self.results = {**results, 'ceilings': {}, 'rows': []}
        self._seconds_before = 0.0
        self._start = time.perf_counter()
        if resume:
            self._resume()

    @property
    def part(self) -> Path | None:
        """Where the rows stand until all are there."""
        return None if self.path is None else self.path.with_name(self.path.name + '.part')

    @property
    def ceilings(self) -> dict[str, dict]:
        """Rates of the machine by dtype."""
        return self.results['ceilings']

    @property
    def rows(self) -> list[dict]:
        """All rows, those of earlier runs first."""
        return self.results['rows']

    def done(self, passes: Iterable[str]) -> set[tuple]:
        """The cases (:func:`case_key`) of which every pass has its row; rows of others are dropped."""
        found: dict[tuple, set[str]] = {}
        for row in self.rows:
            found.setdefault(case_key(row), set()).add(row['pass'])
        whole = {case for case, names in found.items() if names >= set(passes)}
        self.rows[:] = [row for row in self.rows if case_key(row) in whole]
        return whole

    def add(self, row: dict) -> None:
        """Keep a row. A wrong one has no place in a file, and nothing is written from then on."""
        self.rows.append(row)
        if self.part is not None and not any(row.get('wrong') for row in self.rows):
            self._write(self.part)

    def finish(self) -> Path:
        """Write the file."""
        self._write(self.path)
        self.part.unlink(missing_ok=True)
        return self.path

    def discard(self) -> None:
        """Remove what was kept so far."""
        if self.part is not None:
            self.part.unlink(missing_ok=True)

    def _write(self, path: Path) -> None:
        self.results['settings']['seconds_total'] = self._seconds_before + time.perf_counter() - self._start
        write_results(self.results, path)

    def _resume(self) -> None:
        if self.path is None:
            raise UsageError('--resume needs --json FILE, whose rows are kept')
        source = self.part if self.part.exists() else self.path
        if not source.exists():
            return
        earlier = _read(source)
        for part, names in (('run', _OF_THE_RUN), ('settings', _OF_THE_SETTINGS)):
            for name in names:
                before, now = earlier[part].get(name), self.results[part].get(name)
                if before != now:
                    raise UsageError(
                        f'--resume: {source} was measured with {name} {_brief(before, now)}, this run has '
                        f'{_brief(now, before)}; give another --json, or leave out --resume to measure all again'
                    )
        run, settings = self.results['run'], self.results['settings']
        run['date'] = earlier['run']['date']
        run['dirty'] = run['dirty'] or earlier['run']['dirty']
        commands = [*earlier['settings']['command'].split(' && '), settings['command']]
        settings['command'] = ' && '.join(dict.fromkeys(command.replace(' --resume', '') for command in commands))
        self._seconds_before = earlier['settings']['seconds_total']
        self.results |= {'ceilings': earlier['ceilings'], 'rows': earlier['rows']}


def case_key(row: dict) -> tuple:
    """What the rows of one case have in common: shape, dtype, layout and sharing grid."""
    return tuple(row['shape'].values()), row['dtype'], row['layout'], tuple(row.get('grid', ()))


def _read(path: Path) -> dict:
    try:
        results = json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f'--resume: {path} is no JSON ({error}); remove it to measure all again') from error
    errors = find_errors(results)
    if errors or results['kind'] != 'ops':
        what = errors[0] if errors else 'it is of another benchmark'
        raise UsageError(f'--resume: {path} is no result file of tools/benchmark_ops.py ({what})')
    return results


def _brief(value: object, other: object) -> object:
    """Of two dicts only what differs."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: item for name, item in value.items() if other.get(name) != item}
    return value

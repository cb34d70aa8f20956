"""The frame of the hostile input campaigns: makes cases from a seed, runs each in its own process, counts outcomes.

A campaign is a table of kinds of input. Case ``i`` belongs to kind ``i % len(kinds)`` and draws from a generator of its
own, seeded by (seed, campaign, i), so that any case can be repeated alone. It runs in a forked child, in an empty
folder: a crash, a hang and a file left behind concern no other case.

Good outcomes are `WORKED` (and the result was checked) and `SENTENCE` (refused with one sentence that names what is
wrong). All others are failures of the product.
"""

from __future__ import annotations

import json
import linecache
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmlk.benchmarks.environment import describe_run
from mmlk.errors import UsageError
from mmlk.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / 'results'

WORKED = 'worked'
SENTENCE = 'one sentence'
UNEXPLAINED = 'unexplained'
WRONG = 'wrong'
HANG = 'hang'
CODE_RAN = 'code ran'
HALF_WRITTEN = 'half-written file'
GOOD = (WORKED, SENTENCE)
OUTCOMES = (*GOOD, UNEXPLAINED, WRONG, HANG, CODE_RAN, HALF_WRITTEN)

#: Sentences per kind in the result file.
EXAMPLES = 3
#: Characters of a sentence; a longer one is a dump.
LONGEST_SENTENCE = 1500


class Unexplained(Exception):
    """A failure without a sentence of ours: what a case raises where it finds one itself."""


class Wrong(Exception):
    """An input was accepted and the result is not right, or a right input was refused."""


@dataclass(frozen=True)
class Place:
    """Where a case runs.

    Attributes:
        folder: Empty folder of the case, and its working directory; deleted afterwards.
        canary: File that hostile code makes if it is run.
        shared: What the campaign's ``prepare`` returned.
    """

    folder: Path
    canary: Path
    shared: Any


@dataclass(frozen=True)
class Attempt:
    """One input and what to do with it.

    Attributes:
        what: The input in words, for the result file.
        run: Hands the input to the product. Returns after checking the result, raises :class:`Wrong` where it is not
            right, and lets the product's errors pass.
        names: One of these has to be in the sentence as a word of its own: the argument, the file.
        expects: `WORKED` or `SENTENCE` where only that is right; ``None`` where both are.
        outputs: Files that may not be there after a refusal.
    """

    what: str
    run: Callable[[], Any]
    names: tuple[str, ...] = ()
    expects: str | None = None
    outputs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Campaign:
    """A table of kinds of hostile input.

    Attributes:
        name: Name on the command line and of the result file.
        kinds: Function per kind of input, which makes a case from a generator and the place where it will run. It runs
            in the child, before the clock of the case starts to matter, and may write files into the folder.
        cases: How many cases the committed result has.
        limit: Seconds after which a case counts as a hang.
        prepare: Runs once, before the first fork, with a folder that stays until the end: imports, demo data,
            checkpoints. What it returns is ``place.shared``.
    """

    name: str
    kinds: dict[str, Callable[[random.Random, Place], Attempt]]
    cases: int
    limit: float = 60.0
    prepare: Callable[[Path], Any] = lambda folder: None


@dataclass
class Outcome:
    """What came of one case."""

    number: int
    kind: str
    what: str
    outcome: str
    detail: str = ''

    def as_record(self, seed: int, campaign: str) -> dict:
        repeat = f'python tests/hostile {campaign} --seed {seed} --case {self.number}'
        return {**vars(self), 'repeat': repeat}


@dataclass
class Report:
    """Outcomes of a run."""

    campaign: Campaign
    seed: int
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def bad(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.outcome not in GOOD]

    def as_content(self) -> dict:
        """What the result file holds."""
        counts: dict[str, Counter] = defaultdict(Counter)
        examples: dict[str, list[str]] = defaultdict(list)
        for outcome in self.outcomes:
            counts[outcome.kind][outcome.outcome] += 1
            seen = examples[outcome.kind]
            detail = _without_places(outcome.detail)
            if outcome.outcome == SENTENCE and len(seen) < EXAMPLES and detail not in seen:
                seen.append(detail)
        total = Counter(outcome.outcome for outcome in self.outcomes)
        run = describe_run('cpu')
        return {
            'campaign': self.campaign.name,
            **{name: run[name] for name in ('date', 'commit', 'dirty', 'machine', 'versions')},
            'seed': self.seed,
            'seconds': round(self.seconds),
            'limit_seconds': self.campaign.limit,
            'cases': len(self.outcomes),
            'total': {name: total[name] for name in OUTCOMES},
            'kinds': {
                kind: {name: counts[kind][name] for name in OUTCOMES if counts[kind][name]}
                for kind in self.campaign.kinds
                if kind in counts
            },
            'examples': {kind: examples[kind] for kind in self.campaign.kinds if examples.get(kind)},
            'bad': [outcome.as_record(self.seed, self.campaign.name) for outcome in self.bad],
        }

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps(self.as_content(), indent=1, ensure_ascii=False) + '\n')


def _without_places(sentence: str) -> str:
    """A sentence without where this machine keeps the checkout and the folders of the cases."""
    return re.sub(r'[^\s\'"(]*/mmlk-hostile-\w+/(?:case/|shared/)?', '', sentence.replace(f'{ROOT}/', ''))


def numbers_of(campaign: Campaign, cases: int, only: str | None = None) -> list[int]:
    """Numbers of the cases 0 to ``cases``, of one kind or of all."""
    kinds = list(campaign.kinds)
    return [number for number in range(cases) if only is None or kinds[number % len(kinds)] == only]


def run(
    campaign: Campaign,
    numbers: Iterable[int],
    seed: int,
    after_each: Callable[[Outcome], None] = lambda outcome: None,
) -> Report:
    """Run cases by number; ``after_each`` is told every outcome."""
    report, start = Report(campaign, seed), time.perf_counter()
    # Not below the folder of the caller: a case may look for a checkout or a config above its own folder.
    with tempfile.TemporaryDirectory(prefix='mmlk-hostile-') as above:
        base = Path(above, 'shared')
        base.mkdir()
        shared = campaign.prepare(base)
        for number in numbers:
            outcome = _run_in_child(campaign, number, seed, Path(above, 'case'), shared)
            report.outcomes.append(outcome)
            after_each(outcome)
    report.seconds = time.perf_counter() - start
    return report


def command(tool: str, *arguments: Any, statuses: tuple[int, ...] = (0,), refusals: tuple[int, ...] = (2,)) -> Any:
    """Run a tool of tools/ in this process, for an :class:`Attempt`.

    Args:
        tool: File in tools/.
        *arguments: Its command line.
        statuses: Statuses that mean that it worked.
        refusals: Statuses with which it may refuse; training ends with 1 or 3 where it is stopped on its way.

    Returns:
        Its ``tool_runner.Result``.

    Raises:
        UsageError: It refused with exactly one line ``error: ...``; the message is the rest of that line.
        Unexplained: It ended in any other way.
    """
    from tool_runner import run_tool

    try:
        result = run_tool(tool, *arguments)
    except Exception as error:
        raise Unexplained(f'{tool} ended with a traceback: {_describe(error)}') from error
    if result.code in statuses and 'Traceback' not in result.err:
        return result
    # argparse puts the name of the tool before.
    sentences = re.findall(r'^(?:\w+\.py: )?error: (.*)$', result.err, re.M)
    if result.code not in refusals or len(sentences) != 1 or 'Traceback' in result.err:
        raise Unexplained(f'{tool} ended with status {result.code} and {result.err[-500:]!r}')
    raise UsageError(sentences[0])


def _run_in_child(campaign: Campaign, number: int, seed: int, folder: Path, shared: Any) -> Outcome:
    """Fork, run one case in the child, and wait for its outcome as long as the campaign allows."""
    kind = list(campaign.kinds)[number % len(campaign.kinds)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    answer_path, log_path = folder.with_name('answer'), folder.with_name('log')
    answer_path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        # Nothing of this process may go on in the child, pytest least of all.
        try:
            os.setsid()
            with log_path.open('wb') as log, open(os.devnull, 'rb') as nothing:
                for source, target in ((nothing, 0), (log, 1), (log, 2)):
                    os.dup2(source.fileno(), target)
            os.chdir(folder)
            # Threads of the parent do not exist here; a pool of them would be waited for in vain.
            torch.set_num_threads(1)
            _attempt(campaign, number, seed, Place(folder, folder.with_name('canary'), shared), answer_path)
        finally:
            os._exit(0)
    status = _wait(child, campaign.limit)
    # What the case started, such as workers of a DataLoader, would outlive it: it leaves without running exit handlers.
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    answer = json.loads(answer_path.read_text()) if answer_path.is_file() else {}
    outcome = Outcome(number, kind, answer.get('what', 'unknown'), answer.get('outcome', UNEXPLAINED))
    outcome.detail = answer.get('detail', '')
    if status is None:
        outcome.outcome, outcome.detail = HANG, f'no answer after {campaign.limit:g} s'
    elif os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        outcome.outcome, outcome.detail = UNEXPLAINED, f'the process died of {name}: {_tail(log_path)}'
    elif 'outcome' not in answer:
        outcome.detail = f'the process ended early: {_tail(log_path)}'
    canary = folder.with_name('canary')
    if canary.exists():
        outcome.outcome = CODE_RAN
        canary.unlink()
    return outcome


def _wait(child: int, limit: float) -> int | None:
    """Status of a child, or ``None`` where it had to be killed, with all it started, after ``limit`` seconds."""
    end, pause = time.monotonic() + limit, 0.001
    try:
        while time.monotonic() < end:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return status
            time.sleep(pause)
            pause = min(1.5 * pause, 0.05)
    except BaseException:
        _kill(child)
        raise
    _kill(child)
    return None


def _kill(child: int) -> None:
    # The child leads a group of its own, so that what it started ends with it.
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _attempt(campaign: Campaign, number: int, seed: int, place: Place, answer_path: Path) -> None:
    """Make and run one case; writes the answer for the parent in two steps, so that a crash can be named."""
    kind = list(campaign.kinds)[number % len(campaign.kinds)]
    rng = random.Random(f'{seed}/{campaign.name}/{number}')
    torch.manual_seed(rng.getrandbits(32))
    try:
        attempt = campaign.kinds[kind](rng, place)
    except Exception as error:
        detail = f'the case could not be made: {_describe(error)}'
        answer_path.write_text(json.dumps({'what': kind, 'outcome': UNEXPLAINED, 'detail': detail}))
        return
    answer = {'what': attempt.what[:500]}
    answer_path.write_text(json.dumps(answer))
    answer['outcome'], answer['detail'] = classify(attempt, place)
    answer_path.write_text(json.dumps(answer))


def classify(attempt: Attempt, place: Place) -> tuple[str, str]:
    """Run an attempt here; returns its outcome with the sentence or what is wrong."""
    try:
        attempt.run()
    except Wrong as error:
        return WRONG, str(error)
    # An exit inside the product is no sentence either: tools are run with `command`, which looks at their status.
    except (Exception, SystemExit) as error:
        sentence = _sentence(error, attempt.names)
        if sentence is None:
            return UNEXPLAINED, _describe(error)
        outcome, detail = SENTENCE, sentence
    else:
        outcome, detail = WORKED, ''
    left = _half_written(attempt, place, outcome)
    if left:
        return HALF_WRITTEN, f'left behind: {", ".join(left)}'
    if attempt.expects not in (None, outcome):
        return WRONG, f'expected {attempt.expects!r}, got {outcome!r} {detail}'.strip()
    return outcome, detail


def _half_written(attempt: Attempt, place: Place, outcome: str) -> list[str]:
    partial = [path for pattern in ('*.part', '*.tmp') for path in place.folder.rglob(pattern)]
    refused = [path for path in attempt.outputs if outcome != WORKED and path.exists()]
    return sorted(os.path.relpath(path, place.folder) for path in {*partial, *refused})


def _sentence(error: BaseException, names: tuple[str, ...]) -> str | None:
    """The message of an error that is one of our sentences, else ``None``."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if not isinstance(error, UsageError) and not _raised_by_us(error):
        return None
    if '\n' in message or len(message.split()) < 3 or len(message) > LONGEST_SENTENCE:
        return None
    if names and not any(re.search(rf'(?<!\w){re.escape(name)}(?!\w)', message) for name in names):
        return None
    return message


def _raised_by_us(error: BaseException) -> bool:
    """Whether a ``raise`` statement of the package raised the error, not something the package called."""
    if not isinstance(error, (ValueError, TypeError, RuntimeError, OSError, KeyError)):
        return False
    frame = traceback.extract_tb(error.__traceback__)[-1]
    source = linecache.getline(frame.filename, frame.lineno or 0)
    return Path(frame.filename).is_relative_to(ROOT / 'mmlk') and source.lstrip().startswith('raise')


def _describe(error: BaseException) -> str:
    """Type, message and place of an error that was not expected."""
    frames = traceback.extract_tb(error.__traceback__)
    place = ' < '.join(f'{Path(frame.filename).name}:{frame.lineno}' for frame in reversed(frames[-4:]))
    return f'{type(error).__name__}: {" ".join(str(error).split())[:600]} ({place})'


def _tail(path: Path) -> str:
    return path.read_text(errors='replace')[-600:] if path.is_file() else ''

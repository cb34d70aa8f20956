"""Training runs that are killed: each has to end, once resumed, bit by bit as the one that was not."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

from children import ending, fork
from hostile.campaign import WORKED, Attempt, Campaign, Place, Wrong

#: MiB in every checkpoint, so that writing one takes long enough to be hit.
BALLAST = 16
#: Attempts to hit the moment; a run that is over, or a file that is written, before the signal arrives counts as none.
ATTEMPTS = 20
WORKERS = (0, 2)
KINDS = {'iteration': 'by iterations', 'epoch': 'by epochs', 'within epoch': 'by epochs, saved within them'}


def prepare(folder: Path) -> dict[tuple[str, int], tuple[dict, float]]:
    """The uninterrupted runs: how each ends, and how many seconds it takes."""
    from resume_runs import end_state

    references = {}
    for kind in KINDS:
        for workers in WORKERS:
            place, start = folder / f'{kind} {workers}', time.monotonic()
            if ending(fork(partial(train, place, kind, workers))):
                raise RuntimeError(f'the uninterrupted run {place} failed')
            references[kind, workers] = end_state(place), time.monotonic() - start
    return references


def train(folder: Path, kind: str, workers: int) -> None:
    """Train, or go on with it."""
    from resume_runs import runner

    # Of all of a run's output, only the traceback of a failure is wanted.
    runner(folder, kind, workers, ballast=BALLAST, log_level='ERROR').train()


def kill_anywhere(rng: random.Random, folder: Path, kind: str, workers: int, seconds: float) -> None:
    """Kill a run some time after its start."""
    for _ in range(ATTEMPTS):
        child = fork(partial(train, folder, kind, workers))
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        if ending(child) == -signal.SIGKILL:
            return
    raise Wrong(f'{ATTEMPTS} runs were over, or failed, before they could be killed')


def kill_while_writing(rng: random.Random, folder: Path, kind: str, workers: int, seconds: float) -> None:
    """Kill a run in the middle of writing a checkpoint, with a file left half-written."""
    for _ in range(ATTEMPTS):
        wanted, seen = rng.randint(1, 3), set()
        child = fork(partial(train, folder, kind, workers))
        end = time.monotonic() + 10 * seconds + 10
        while time.monotonic() < end and not os.waitpid(child, os.WNOHANG)[0]:
            seen |= {path.name for path in folder.glob('*.pth.*.part')}
            if len(seen) >= wanted:
                time.sleep(rng.uniform(0, 0.005))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                if list(folder.glob('*.pth.*.part')):
                    return
                break
    raise Wrong(f'{ATTEMPTS} attempts have not hit the writing of a checkpoint')


def make(kind: str, workers: int, kill, rng: random.Random, place: Place) -> Attempt:
    """A run that is killed once or twice, resumed, and compared."""
    times = rng.choice((1, 1, 2))
    expected, seconds = place.shared[kind, workers]

    def run() -> None:
        from resume_runs import differences, end_state

        folder = place.folder / 'run'
        for _ in range(times):
            kill(rng, folder, kind, workers, seconds)
        if status := ending(fork(partial(train, folder, kind, workers))):
            raise Wrong(f'the resumed run ended with {status}')
        found = differences(expected, end_state(folder))
        if found:
            raise Wrong(f'{len(found)} differences, such as {found[0]}')
        if left := list(folder.glob('*.part')):
            raise Wrong(f'{left[0].name} is left')

    what = f'{KINDS[kind]}, {workers} workers, killed {"once" if times == 1 else "twice"} ({kill.__name__})'
    return Attempt(what, run, expects=WORKED)


CAMPAIGN = Campaign(
    name='kills',
    kinds={
        f'{words}, {workers} workers, {moment}': partial(make, kind, workers, kill)
        for moment, kill in (('at any moment', kill_anywhere), ('while writing', kill_while_writing))
        for kind, words in KINDS.items()
        for workers in WORKERS
    },
    cases=48,
    limit=120,
    prepare=prepare,
)

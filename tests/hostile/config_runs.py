"""Train with a hostile config: what all cases start from, and how they are run."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hostile.campaign import ROOT, Attempt, Place, Wrong, command
from hostile.config_files import as_python

FAMILIES = ('pelk', 'replknet', 'slak', 'shiftwise_v2', 'unireplknet')
HOSTS = ('mmpretrain', 'mmseg', 'mmdet')
ITERATIONS = 2
#: Statuses of a run that was refused, or stopped after an iteration.
REFUSALS = (1, 2, 3)
#: Bytes that a case may take beyond what the imports did: a size of 10**9 has to fail, not to fill the machine.
MEMORY = 4 << 30


@dataclass(frozen=True)
class Shared:
    """What all cases start from.

    Attributes:
        demo_root: Folder of the generated data.
        written: (host, family) -> the shipped config, made tiny.
        demo: The same after ``--demo``: complete, on generated data.
        checkpoints: Host -> checkpoint of its PeLK.
    """

    demo_root: Path
    written: dict[tuple[str, str], dict]
    demo: dict[tuple[str, str], dict]
    checkpoints: dict[str, Path]


def prepare(folder: Path) -> Shared:
    import torch
    from config_sweep import short_demo
    from mmengine.config import Config
    from tiny_models import tiny_config, trained_like

    from mmlk.datasets.demo.demo_config import apply_demo

    for host in HOSTS:
        for package in ('models', 'datasets', 'visualization', 'evaluation'):
            import_module(f'{host}.{package}')
    written, demo, checkpoints = {}, {}, {}
    shown = ('default_hooks.logger.interval=1',)
    with contextlib.chdir(ROOT), short_demo(), contextlib.redirect_stdout(sys.stderr):
        for host in HOSTS:
            for family in FAMILIES:
                cfg = tiny_config(host, family, *shown)
                written[host, family] = cfg.to_dict()
                apply_demo(cfg, iterations=ITERATIONS, data_root=folder / 'demo')
                demo[host, family] = cfg.to_dict()
            checkpoints[host] = folder / f'{host}.pth'
            model = trained_like(Config(demo[host, 'pelk']))
            torch.save({'state_dict': model.state_dict(), 'meta': {}}, checkpoints[host])
    return Shared(folder / 'demo', written, demo, checkpoints)


@contextlib.contextmanager
def surroundings(place: Place):
    """Few pictures, two iterations, bounded memory; only in the process of a case."""
    from config_sweep import short_demo

    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    os.environ['MMLK_DEMO_ROOT'] = str(place.shared.demo_root)
    with short_demo():
        yield


def any_config(rng: random.Random, place: Place) -> tuple[tuple[str, str], dict, tuple[str, ...]]:
    """A network on a host: its config, either as it is with ``--demo`` behind the command, or after it."""
    key = rng.choice(HOSTS), rng.choice(FAMILIES)
    if rng.random() < 0.3:
        return key, place.shared.written[key], ('--demo',)
    return key, place.shared.demo[key], ()


def train(
    place: Place,
    config: dict | str | bytes,
    what: str,
    *arguments: str,
    names: tuple[str, ...] = (),
    expects: str | None = None,
    name: str = 'config.py',
) -> Attempt:
    """Train with a config; a run has to end with its summary."""
    path = place.folder / name
    content = as_python(config) if isinstance(config, dict) else config
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return train_file(place, path, what, *arguments, names=names, expects=expects)


def train_file(
    place: Place,
    path: Path,
    what: str,
    *arguments: str,
    names: tuple[str, ...] = (),
    expects: str | None = None,
) -> Attempt:
    work_dir = place.folder / 'run'
    arguments = arguments if '--work-dir' in arguments else ('--work-dir', str(work_dir), *arguments)

    def run() -> None:
        with surroundings(place):
            result = command('train.py', str(path), *arguments, refusals=REFUSALS)
        if f'trained {path}' not in ''.join(result.out.split('\n')):
            raise Wrong('the run ended without a summary')

    return Attempt(what, run, names, expects)

"""On what a benchmark ran: machine, versions, commit."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from mmlk.version import __version__

PACKAGES = ('triton', 'mmengine', 'mmsegmentation', 'mmdet', 'mmpretrain')


def describe_run(device: str) -> dict:
    """Machine, versions, flags, commit and date, as the result file has them."""
    commit, dirty = _commit()
    return {
        'date': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ'),
        'commit': commit,
        'dirty': dirty,
        'device': device,
        'machine': {
            'cpu': _cpu_model(),
            'cores': _usable_cores(),
            'threads': torch.get_num_threads(),
            'capability': torch.backends.cpu.get_cpu_capability(),
            'gpu': torch.cuda.get_device_name(0) if device == 'cuda' else None,
        },
        'versions': {
            'mmlk': __version__,
            'python': platform.python_version(),
            'torch': torch.__version__,
            'cuda': torch.version.cuda if device == 'cuda' else None,
            'cudnn': str(torch.backends.cudnn.version()) if device == 'cuda' else None,
            **{name: _version(name) for name in PACKAGES},
        },
        'flags': {
            'cudnn_allow_tf32': torch.backends.cudnn.allow_tf32,
            'cudnn_benchmark': torch.backends.cudnn.benchmark,
            'deterministic': torch.are_deterministic_algorithms_enabled(),
        },
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _cpu_model() -> str:
    """Name of the processor; virtual machines often give a general one, so family and model follow."""
    try:
        lines = Path('/proc/cpuinfo').read_text().split('\n\n')[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(':') for line in lines)}
    name = facts.get('model name') or platform.machine()
    if 'cpu family' in facts:
        name += f' (family {facts["cpu family"]}, model {facts.get("model")})'
    return name


def _commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout this file lies in and whether files differ from it; ``None`` outside a checkout."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(['git', *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    # A package installed inside somebody's checkout is not part of it.
    if not git('ls-files', '../version.py'):
        return None, None
    status = git('status', '--porcelain')
    return git('rev-parse', 'HEAD'), None if status is None else bool(status)

"""What the standard library knows of the machine: processors, memory, disk, GPU driver, compilers, environment."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

#: Environment variables that change how things run.
VARIABLES = re.compile(
    r'(MMLK_|OMP_|MKL_|KMP_|OPENBLAS_|TRITON_|TORCH|PYTORCH_|CUDA_|NVIDIA_|NCCL_|ONEDNN_|DNNL_)\w+'
    r'|PYTHONPATH|PYTHONHOME|LD_LIBRARY_PATH|LD_PRELOAD|VIRTUAL_ENV|CONDA_PREFIX|CC|CXX'
)
#: Of these only the name is shown.
SECRET = re.compile('TOKEN|KEY|SECRET|PASSWORD', re.I)


@dataclass(frozen=True)
class Machine:
    """The machine; ``None`` where something is not known here.

    Attributes:
        system: Operating system and architecture.
        libc: Version of the C library.
        cores: Processors of the machine.
        usable_cores: Those this process may use, by its affinity and the quota of its container.
        memory_gib: Memory that is free, and all of it, as far as this process may use it.
        disk_gib: Free space: folder -> GiB.
        shm_gib: Free shared memory, through which workers of a data loader hand over images.
        driver: Version of NVIDIA's driver, the newest CUDA it runs, names of its GPUs.
        compilers: C and C++ compiler that ``torch.compile`` and Triton call.
        headers: Whether Python's own headers are there, which both need.
        variables: Environment variables that matter.
    """

    system: str
    libc: str
    cores: int
    usable_cores: float
    memory_gib: tuple[float, float] | None
    disk_gib: dict[str, float]
    shm_gib: float | None
    driver: dict | None
    compilers: dict[str, str | None]
    headers: bool
    variables: dict[str, str] = field(default_factory=dict)


def examine() -> Machine:
    """Look at this machine."""
    return Machine(
        system=f'{platform.system()} {platform.release()} {platform.machine()}',
        libc=' '.join(platform.libc_ver()).strip(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        memory_gib=memory(),
        disk_gib=disk([Path.cwd(), Path(tempfile.gettempdir())]),
        shm_gib=next(iter(disk([Path('/dev/shm')]).values()), None),
        driver=nvidia_driver(),
        compilers={
            'C': _compiler('CC', ('gcc', 'clang', 'cc')),
            'C++': _compiler('CXX', ('g++', 'clang++', 'c++')),
        },
        headers=Path(sysconfig.get_paths()['include'], 'Python.h').is_file(),
        variables=variables(),
    )


def usable_cores() -> float:
    """Processors that this process may use; a quota may be a fraction."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quota = _read('/sys/fs/cgroup/cpu.max').split()
    if len(quota) == 2 and quota[0].isdecimal() and int(quota[1]):
        return min(cores, int(quota[0]) / int(quota[1]))
    return cores


def memory() -> tuple[float, float] | None:
    """GiB that are available, and all; a container's limit counts where it is less."""
    found = dict(re.findall(r'^(MemTotal|MemAvailable): +(\d+) kB', _read('/proc/meminfo'), re.M))
    if len(found) != 2:
        return None
    total, free = (int(found[name]) * 1024 for name in ('MemTotal', 'MemAvailable'))
    limit, used = (_read(f'/sys/fs/cgroup/memory.{name}').strip() for name in ('max', 'current'))
    if limit.isdecimal() and int(limit) < total:
        total = int(limit)
        free = min(free, total - int(used) if used.isdecimal() else total)
    return round(max(free, 0) / 2**30, 1), round(total / 2**30, 1)


def disk(folders: list[Path]) -> dict[str, float]:
    """Free GiB by folder; folders that do not exist are left out."""
    found = {}
    for folder in folders:
        try:
            found[str(folder)] = round(shutil.disk_usage(folder).free / 2**30, 2)
        except OSError:
            continue
    return found


def nvidia_driver() -> dict | None:
    """What ``nvidia-smi`` says; ``None`` where it is not there, ``error`` where it fails."""
    program = shutil.which('nvidia-smi')
    if program is None:
        return None
    try:
        result = subprocess.run([program], capture_output=True, text=True, errors='replace', timeout=60)
        gpus = subprocess.run([program, '-L'], capture_output=True, text=True, errors='replace', timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {'error': str(error)}
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines()
        return {'error': lines[0] if lines else f'nvidia-smi ended with status {result.returncode}'}
    version = re.search(r'Driver Version: *([\d.]+)', result.stdout)
    cuda = re.search(r'CUDA Version: *([\d.]+)', result.stdout)
    return {
        'version': version and version[1],
        'cuda': cuda and cuda[1],
        'gpus': re.findall(r'^GPU \d+: (.+?)(?: \(UUID.*)?$', gpus.stdout, re.M),
    }


def variables() -> dict[str, str]:
    """Environment variables that matter, by name."""
    return {
        name: '(set)' if SECRET.search(name) else value
        for name, value in sorted(os.environ.items())
        if VARIABLES.fullmatch(name)
    }


def in_another_environment() -> str | None:
    """The environment that is activated, where this Python is of another one."""
    active = os.environ.get('VIRTUAL_ENV') or os.environ.get('CONDA_PREFIX')
    if active and os.path.realpath(active) != os.path.realpath(sys.prefix):
        return active
    return None


def _compiler(variable: str, names: tuple[str, ...]) -> str | None:
    for name in (os.environ.get(variable, '').split(' ')[0], *names):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ''

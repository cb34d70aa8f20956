"""Several processes of one run: where each of them stands, and which of them speaks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

from mmlk.errors import UsageError

#: What each launcher puts in the environment: number of the process, of all processes, of the process on its machine.
VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
#: How a run of each is started.
STARTED_BY = {
    'pytorch': 'torchrun: bash tools/dist_train.sh CONFIG 2',
    'slurm': 'srun: bash tools/slurm_train.sh PARTITION NAME CONFIG WORK_DIR',
    'mpi': 'mpirun of Open MPI: mpirun -np 2 python tools/train.py CONFIG --launcher mpi',
}
DEFAULT_PORT = 29500
#: What gloo and NCCL say where a process is gone; other errors of theirs, such as tensors of different sizes, are not
#: explained by that.
_LOST = re.compile(r'gloo.*(connection|by peer|broken pipe|timed? ?out)|remote ?(process|error)', re.I | re.S)
#: Seconds after which a process other than the first reports an error that the first has not reported.
PATIENCE = 3.0


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its run.

    Attributes:
        rank: Its number, from 0.
        world_size: How many there are.
        local_rank: Its number on its machine, from 0.
        local_world_size: How many there are on its machine, as far as the launcher tells; at least ``local_rank + 1``.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int


def find_place(launcher: str) -> Place | None:
    """Read from the environment where a launcher has put this process, and write it down as torch and MMEngine read it.

    Args:
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Returns:
        The place; ``None`` without a launcher.

    Raises:
        UsageError: The process was not started by this launcher, or by one when none was named, or a machine cannot be
            found.
    """
    if launcher == 'none':
        count = os.environ.get('WORLD_SIZE', '1')
        if 'TORCHELASTIC_RUN_ID' in os.environ and count != '1':
            raise UsageError(
                f'torchrun has started {count} processes, which would write over each other as --launcher is none; '
                'add --launcher pytorch'
            )
        return None
    if launcher not in VARIABLES:
        raise UsageError(f'launcher must be none, {", ".join(VARIABLES)}, got {launcher!r}')
    rank, world_size, local_rank = (_read(launcher, name) for name in VARIABLES[launcher])
    if rank >= world_size:
        raise UsageError(f'--launcher {launcher}: there is no process {rank} of {world_size}, which count from 0')
    if launcher == 'slurm':
        if 'MASTER_ADDR' not in os.environ:
            os.environ['MASTER_ADDR'] = _first_machine_of_slurm()
        # Jobs that share a machine need ports of their own.
        job = int(re.sub(r'\D', '', os.environ.get('SLURM_JOB_ID', '')) or 0)
        os.environ.setdefault('MASTER_PORT', str(10000 + job % 20000 if job else DEFAULT_PORT))
    if launcher == 'mpi':
        if 'MASTER_ADDR' not in os.environ and _number('OMPI_COMM_WORLD_LOCAL_SIZE') != world_size:
            raise UsageError(
                '--launcher mpi on several machines needs the address of the first: mpirun -x MASTER_ADDR=ADDRESS'
            )
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
        os.environ.setdefault('MASTER_PORT', str(DEFAULT_PORT))
    for name in ('MASTER_ADDR', 'MASTER_PORT'):
        _require(launcher, name)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(local_rank))
    local = max(_number('LOCAL_WORLD_SIZE') or 0, _number('OMPI_COMM_WORLD_LOCAL_SIZE') or 0, local_rank + 1)
    return Place(rank, world_size, local_rank, local)


def end_processes() -> None:
    """Take the processes of a run apart at its end; does nothing where there is one."""
    distributed = _group()
    if distributed is not None:
        distributed.destroy_process_group()


def rank_of_process() -> int:
    """Number of this process in its run as the environment has it, 0 where it is alone."""
    return _number('RANK') or 0


def is_lost_process(error: BaseException) -> bool:
    """Does an error say that another process of the run cannot be reached any more?"""
    distributed = _group()
    if distributed is None:
        return False
    if isinstance(error, (distributed.DistNetworkError, distributed.DistStoreError)):
        return True
    return isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


def may_speak() -> bool:
    """Is it for this process to report an error? Of several that fail together, one does.

    The first one to ask does, once the processes have found each other. Before, the first in number does, and the
    others after a while: by then, the launcher has ended them if the first has failed.
    """
    distributed = _group()
    if distributed is not None and distributed.get_world_size() > 1:
        try:
            return distributed.distributed_c10d._get_default_store().add('mmlk_error', 1) == 1
        except (AttributeError, RuntimeError):
            # The process that keeps the store is gone.
            return True
    if rank_of_process() > 0:
        time.sleep(PATIENCE)
    return True


def _group():
    """``torch.distributed`` where a process group has been started; not imported for the question."""
    distributed = sys.modules.get('torch.distributed')
    return distributed if distributed is not None and distributed.is_initialized() else None


def _number(name: str) -> int | None:
    text = os.environ.get(name, '')
    return int(text) if text.isdecimal() else None


def _require(launcher: str, name: str) -> str:
    if not os.environ.get(name):
        raise UsageError(
            f'--launcher {launcher} expects to be started by {STARTED_BY[launcher]}; {name} is not in the environment'
        )
    return os.environ[name]


def _read(launcher: str, name: str) -> int:
    text = _require(launcher, name)
    if not text.isdecimal():
        raise UsageError(f'--launcher {launcher} expects a number in {name}, got {text!r}')
    return int(text)


def _first_machine_of_slurm() -> str:
    machines = os.environ.get('SLURM_STEP_NODELIST') or os.environ.get('SLURM_NODELIST') or ''
    try:
        command = ['scontrol', 'show', 'hostnames', machines]
        names = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        names = []
    if not names:
        raise UsageError(
            f'--launcher slurm expects scontrol to name the machines {machines!r}, it does not; set MASTER_ADDR to the '
            'address of the first'
        )
    return names[0]

"""Where a process stands among those of its run, and which of them reports an error."""

import os
import sys

import pytest
import torch.distributed as dist

from mmlk import launcher
from mmlk.errors import UsageError
from mmlk.launcher import Place, end_processes, find_place, is_lost_process, may_speak, rank_of_process

TORCHRUN = dict(
    RANK='3', WORLD_SIZE='4', LOCAL_RANK='1', LOCAL_WORLD_SIZE='2', MASTER_ADDR='first', MASTER_PORT='29501'
)
SLURM = dict(SLURM_PROCID='3', SLURM_NTASKS='4', SLURM_LOCALID='1', SLURM_JOB_ID='123456', MASTER_ADDR='first')
MPI = dict(
    OMPI_COMM_WORLD_RANK='1',
    OMPI_COMM_WORLD_SIZE='2',
    OMPI_COMM_WORLD_LOCAL_RANK='1',
    OMPI_COMM_WORLD_LOCAL_SIZE='2',
)


@pytest.fixture
def environment(monkeypatch):
    """Replaces the variables of all launchers; what the code under test sets is taken back."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(('SLURM', 'OMPI', 'TORCHELASTIC'))}
    for name in TORCHRUN:
        kept.pop(name, None)
    variables = dict(kept)
    monkeypatch.setattr(os, 'environ', variables)
    return variables


def test_torchrun(environment):
    environment.update(TORCHRUN)
    assert find_place('pytorch') == Place(rank=3, world_size=4, local_rank=1, local_world_size=2)
    assert rank_of_process() == 3


def test_slurm(environment):
    environment.update(SLURM)
    assert find_place('slurm') == Place(3, 4, 1, 2)
    # As torch and MMEngine read it; the port follows from the job.
    assert {name: environment[name] for name in TORCHRUN if name != 'LOCAL_WORLD_SIZE'} == dict(
        RANK='3', WORLD_SIZE='4', LOCAL_RANK='1', MASTER_ADDR='first', MASTER_PORT=str(10000 + 123456 % 20000)
    )


def test_slurm_asks_for_the_first_machine(environment, tmp_path):
    environment.update(SLURM, SLURM_NODELIST='n[1-2]', PATH=str(tmp_path))
    del environment['MASTER_ADDR']
    with pytest.raises(UsageError, match=r"scontrol to name the machines 'n\[1-2\]'.* set MASTER_ADDR"):
        find_place('slurm')
    program = tmp_path / 'scontrol'
    program.write_text('#!/bin/sh\n[ "$*" = "show hostnames n[1-2]" ] && echo n1 && echo n2\n')
    program.chmod(0o755)
    find_place('slurm')
    assert environment['MASTER_ADDR'] == 'n1'


def test_mpi(environment):
    environment.update(MPI)
    assert find_place('mpi') == Place(1, 2, 1, 2)
    assert (environment['MASTER_ADDR'], environment['MASTER_PORT']) == ('127.0.0.1', '29500')


def test_mpi_on_several_machines(environment):
    environment.update(MPI, OMPI_COMM_WORLD_LOCAL_SIZE='1')
    with pytest.raises(UsageError, match='mpirun -x MASTER_ADDR=ADDRESS'):
        find_place('mpi')


@pytest.mark.parametrize(
    ('name', 'variables', 'missing', 'words'),
    [
        ('pytorch', TORCHRUN, 'RANK', 'started by torchrun: bash tools/dist_train.sh CONFIG 2; RANK is not'),
        ('pytorch', TORCHRUN, 'MASTER_PORT', 'MASTER_PORT is not in the environment'),
        ('slurm', SLURM, 'SLURM_NTASKS', 'started by srun: bash tools/slurm_train.sh'),
        ('mpi', MPI, 'OMPI_COMM_WORLD_RANK', 'started by mpirun of Open MPI'),
    ],
)
def test_not_started_by_the_launcher(environment, name, variables, missing, words):
    environment.update(variables)
    del environment[missing]
    with pytest.raises(UsageError, match=words):
        find_place(name)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(RANK='two'), "a number in RANK, got 'two'"),
        (dict(RANK='4'), 'process 4 of 4'),
        (dict(WORLD_SIZE='-1'), "a number in WORLD_SIZE, got '-1'"),
    ],
)
def test_numbers_that_cannot_be(environment, changes, words):
    environment.update(TORCHRUN | changes)
    with pytest.raises(UsageError, match=words):
        find_place('pytorch')


def test_no_launcher(environment):
    assert find_place('none') is None and rank_of_process() == 0
    environment.update(TORCHRUN, TORCHELASTIC_RUN_ID='none')
    with pytest.raises(UsageError, match='torchrun has started 4 processes.*add --launcher pytorch'):
        find_place('none')
    environment['WORLD_SIZE'] = '1'
    assert find_place('none') is None
    with pytest.raises(UsageError, match="launcher must be none, pytorch, slurm, mpi, got 'torchrun'"):
        find_place('torchrun')


def test_without_a_group(environment, monkeypatch):
    """Before the processes have found each other, the first reports at once and the others after a while."""
    waits = []
    monkeypatch.setattr(launcher.time, 'sleep', waits.append)
    assert may_speak() and not waits
    environment.update(TORCHRUN)
    assert may_speak() and waits == [launcher.PATIENCE]
    assert not is_lost_process(RuntimeError('gloo: connection closed by peer'))
    end_processes()


@pytest.mark.parametrize(
    ('error', 'lost'),
    [
        (
            RuntimeError(
                '[/third_party/gloo/gloo/transport/tcp/pair.cc:538] Read error [::1]:5: Connection reset by peer'
            ),
            True,
        ),
        (RuntimeError('[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1000ms for recv operation'), True),
        (dist.DistNetworkError('The client socket has failed to connect'), True),
        (dist.DistBackendError('NCCL error: remote process exited or there was a network error'), True),
        (dist.DistBackendError('NCCL error: unhandled cuda error'), False),
        (
            RuntimeError('[enforce fail at gloo/transport/tcp/pair.cc:446] op.preamble.length <= op.nbytes. 8 vs 4'),
            False,
        ),
        (RuntimeError('Connection reset by peer'), False),
        (ValueError('gloo: timed out'), False),
    ],
)
def test_lost_processes(tmp_path, error, lost):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path / "store"}', rank=0, world_size=1)
    try:
        assert is_lost_process(error) is lost
    finally:
        end_processes()
    assert not is_lost_process(error)


def test_torch_is_not_imported(environment, monkeypatch):
    monkeypatch.delitem(sys.modules, 'torch.distributed')
    assert may_speak() and not is_lost_process(RuntimeError('gloo'))

"""The scripts that start several processes, here or through Slurm."""

import os
from pathlib import Path

import pytest
from miniature import REPOSITORY, needs_shell, write

pytestmark = needs_shell


def show_arguments(path: Path) -> Path:
    return write(path, '#!/bin/sh\nfor argument in "$@"; do printf "<%s>" "$argument"; done\n', executable=True)


def test_dist_scripts_start_processes(run, tmp_path):
    python = str(show_arguments(tmp_path / 'my python'))
    launcher = '<-m><mmlk.cli.launch><--nnodes={}><--node-rank={}><--master-addr={}><--master-port={}>'
    result = run(REPOSITORY / 'tools/dist_train.sh', 'a config.py', '2', '--work-dir', 'my dir', MMLK_PYTHON=python)
    assert result.stdout == (
        launcher.format(1, 0, '127.0.0.1', 0)
        + f'<--nproc-per-node=2><{REPOSITORY}/tools/train.py><a config.py><--launcher><pytorch><--work-dir><my dir>'
    )
    machines = {'NNODES': '3', 'NODE_RANK': '1', 'MASTER_ADDR': '10.0.0.1', 'PORT': '29501'}
    result = run(REPOSITORY / 'tools/dist_test.sh', 'c.py', 'a b.pth', '8', '--tta', MMLK_PYTHON=python, **machines)
    assert result.stdout == (
        launcher.format(3, 1, '10.0.0.1', 29501)
        + f'<--nproc-per-node=8><{REPOSITORY}/tools/test.py><c.py><a b.pth><--launcher><pytorch><--tta>'
    )


def test_slurm_scripts_start_srun(run, tmp_path):
    show_arguments(tmp_path / 'bin/srun')
    settings = {'PATH': f'{tmp_path / "bin"}:{os.environ["PATH"]}', 'GPUS': '4', 'SRUN_ARGS': '--mem 8G'}
    common = '<-p><part><--job-name=job><--gres=gpu:4><--ntasks=4><--ntasks-per-node=4><--cpus-per-task=5>'
    common += '<--kill-on-bad-exit=1><--mem><8G><python><-u>'
    result = run(REPOSITORY / 'tools/slurm_train.sh', 'part', 'job', 'c.py', 'my dir', '--amp', **settings)
    assert result.stdout == (
        common + f'<{REPOSITORY}/tools/train.py><c.py><--work-dir><my dir><--launcher><slurm><--amp>'
    )
    result = run(REPOSITORY / 'tools/slurm_test.sh', 'part', 'job', 'c.py', 'a b.pth', **settings)
    assert result.stdout == common + f'<{REPOSITORY}/tools/test.py><c.py><a b.pth><--launcher><slurm>'


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('dist_train.sh', ['c.py']),
        ('dist_train.sh', ['c.py', 'two']),
        ('dist_test.sh', ['c.py', 'a.pth']),
        ('dist_test.sh', ['c.py', 'a.pth', '0']),
        ('slurm_train.sh', ['part', 'job', 'c.py']),
        ('slurm_test.sh', ['part', 'job', 'c.py']),
    ],
)
def test_missing_arguments_of_launchers(run, name, arguments):
    result = run(REPOSITORY / 'tools' / name, *arguments)
    assert result.returncode == 2
    assert name in result.stderr and 'CONFIG' in result.stderr

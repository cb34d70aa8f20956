"""What the standard library knows of a machine, also of one that hides things."""

import os
from pathlib import Path

import pytest

from mmlk.diagnosis import machine


def test_this_machine():
    found = machine.examine()
    assert found.cores == os.cpu_count() and 0 < found.usable_cores <= found.cores
    assert found.memory_gib is None or 0 < found.memory_gib[0] <= found.memory_gib[1]
    assert all(free > 0 for free in found.disk_gib.values()) and str(Path.cwd()) in found.disk_gib


@pytest.mark.parametrize('quota, cores', [('max 100000', 8), ('150000 100000', 1.5), ('900000 100000', 8), ('', 8)])
def test_quota_of_a_container(monkeypatch, quota, cores):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)))
    monkeypatch.setattr(machine, '_read', lambda path: quota)
    assert machine.usable_cores() == cores


@pytest.mark.parametrize(
    'limit, used, expected',
    [('max', '5', (8.0, 16.0)), (str(4 * 2**30), str(2**30), (3.0, 4.0)), ('', '', (8.0, 16.0))],
)
def test_limit_of_a_container(monkeypatch, limit, used, expected):
    files = {
        '/proc/meminfo': f'MemTotal:       {16 * 2**20} kB\nMemAvailable:   {8 * 2**20} kB\n',
        '/sys/fs/cgroup/memory.max': limit,
        '/sys/fs/cgroup/memory.current': used,
    }
    monkeypatch.setattr(machine, '_read', files.__getitem__)
    assert machine.memory() == expected
    monkeypatch.setattr(machine, '_read', lambda path: '')
    assert machine.memory() is None


class TestDriver:
    @pytest.fixture
    def program(self, tmp_path, monkeypatch):
        """A made-up ``nvidia-smi``."""

        def write(script: str) -> None:
            path = tmp_path / 'nvidia-smi'
            path.write_text(f'#!/bin/sh\n{script}\n')
            path.chmod(0o755)
            monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')

        return write

    def test_works(self, program):
        program(
            'if [ "$1" = -L ]; then echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)"; else '
            'echo "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4 |"; fi'
        )
        assert machine.nvidia_driver() == {'version': '550.54.15', 'cuda': '12.4', 'gpus': ['NVIDIA H100 80GB HBM3']}

    def test_fails(self, program):
        program('echo "NVIDIA-SMI has failed because it could not communicate"; exit 9')
        assert machine.nvidia_driver()['error'].startswith('NVIDIA-SMI has failed')

    def test_is_not_there(self, monkeypatch, tmp_path):
        monkeypatch.setenv('PATH', str(tmp_path))
        assert machine.nvidia_driver() is None


def test_variables(monkeypatch):
    monkeypatch.setattr(
        os, 'environ', {'MMLK_VENV': '/v', 'TORCH_API_TOKEN': 'x', 'HOME': '/h', 'OMP_NUM_THREADS': '1'}
    )
    assert machine.variables() == {'MMLK_VENV': '/v', 'OMP_NUM_THREADS': '1', 'TORCH_API_TOKEN': '(set)'}


def test_compilers(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    for name in ('CC', 'CXX'):
        monkeypatch.delenv(name, raising=False)
    assert machine.examine().compilers == {'C': None, 'C++': None}
    (tmp_path / 'my-cc').touch(0o755)
    monkeypatch.setenv('CC', 'my-cc -O2')
    assert machine.examine().compilers['C'] == str(tmp_path / 'my-cc')

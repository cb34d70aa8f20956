"""A Python from which the scripts cannot make an environment."""

import sys

import pytest
from miniature import fake_python, needs_shell, write

pytestmark = needs_shell


@pytest.mark.parametrize('name', ['quickstart.sh', 'run_tests.sh'])
def test_wrong_python_version(run, repository, tmp_path, name):
    path = fake_python(tmp_path / 'bin', 'echo 3.9')
    # Like the shim of a version manager for a version that is not selected.
    write(tmp_path / 'bin/python3.12', '#!/bin/sh\necho "command not found" >&2\nexit 127\n', executable=True)
    result = run(repository / 'tools' / name, PATH=path, PYTHON='')
    assert result.returncode == 2
    assert 'mmlk needs Python 3.11 or 3.12' in result.stderr
    assert 'python3.12 (does not run)' in result.stderr
    assert 'python3 (version 3.9)' in result.stderr
    assert 'PYTHON=/path/to/python3.11 bash' in result.stderr


def test_named_python_that_does_not_exist(run, repository):
    result = run(repository / 'tools/run_tests.sh', PYTHON='/nowhere/python3.11')
    assert result.returncode == 2
    assert '/nowhere/python3.11 (not found)' in result.stderr


@pytest.mark.parametrize(
    'failure',
    [
        'case "$*" in *ensurepip*) exit 1;; esac',
        'case "$*" in *"-m venv"*) echo "The virtual environment was not created successfully because ensurepip is not '
        'available.  apt install python3.11-venv"; exit 1;; esac',
    ],
    ids=['import', 'command'],
)
def test_debian_without_venv(run, repository, tmp_path, failure):
    path = fake_python(tmp_path / 'bin', f'{failure}\nexec "{sys.executable}" "$@"')
    result = run(repository / 'tools/run_tests.sh', PATH=path, PYTHON='')
    version = '{}.{}'.format(*sys.version_info[:2])
    assert result.returncode == 2
    assert 'cannot make virtual environments' in result.stderr
    assert f'apt-get install python{version}-venv' in result.stderr
    assert 'apt-get install python3-venv' in result.stderr
    # Nothing half-made stays to confuse the next run.
    assert not any((repository / '.venv').glob('*'))


def test_next_python_is_taken_where_the_first_lacks_venv(run, repository, tmp_path):
    fake_python(tmp_path / 'bin', 'case "$*" in *ensurepip*) exit 1;; esac\necho 3.12', names=['python3.12'])
    path = fake_python(tmp_path / 'bin', f'exec "{sys.executable}" "$@"', names=['python3.11'])
    code = f'root="{repository}"; . "$root/tools/_environment.sh"; find_base_python; echo "$base_python"'
    result = run('-c', code, PATH=path, PYTHON='')
    assert result.stdout == f'{tmp_path}/bin/python3.11\n', result.stderr

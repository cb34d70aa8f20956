"""The miniature repository, and scripts that run in it with an environment of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from miniature import build_tools, make_repository

SETTINGS = ('MMLK_', 'PIP_', 'PYTHON', 'VIRTUAL_ENV', 'OMP_NUM_THREADS', 'NNODES', 'NODE_RANK', 'PORT', 'MASTER_ADDR')


@pytest.fixture(scope='session')
def base_environment(tmp_path_factory) -> dict[str, str]:
    """Environment variables without the settings of the session that runs the tests."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    variables['PYTHONPATH'] = str(build_tools(tmp_path_factory.mktemp('build') / 'tools'))
    variables['PYTHON'] = sys.executable
    variables['PIP_CONFIG_FILE'] = os.devnull
    variables['PIP_NO_INDEX'] = '1'
    return variables


@pytest.fixture
def run(base_environment, tmp_path):
    """Return a function that runs a script, by default from an unrelated folder."""

    def run(*command: str | Path, cwd: Path = tmp_path, **variables: str) -> subprocess.CompletedProcess:
        environment = {name: value for name, value in (base_environment | variables).items() if value}
        return subprocess.run(
            ['bash', *map(str, command)],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def repository(tmp_path) -> Path:
    return make_repository(tmp_path / 'a folder' / 'mmlk')


@pytest.fixture(scope='session')
def finished(base_environment, tmp_path_factory) -> tuple[Path, str]:
    """A repository whose quickstart has run once, and what it printed; tests leave its environment in order."""
    root = make_repository(tmp_path_factory.mktemp('finished') / 'with blank')
    result = subprocess.run(
        ['bash', str(root / 'tools/quickstart.sh')],
        cwd='/',
        env=base_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return root, result.stdout

"""An environment that the user names is used as it is."""

import sys

import pytest
from miniature import REPOSITORY, needs_shell

pytestmark = needs_shell


def test_given_environment_is_used_as_it_is(run):
    pytest.importorskip('mmseg')
    # The real repository: the miniature's mmlk could not make mmseg work.
    result = run(REPOSITORY / 'tools/run_tests.sh', '--version', MMLK_PYTHON=sys.executable, PYTHONPATH='')
    assert result.returncode == 0, result.stdout + result.stderr
    assert f'Using the environment of {sys.executable}' in result.stdout
    assert f'pytest {pytest.__version__}' in result.stdout


def test_given_environment_that_lacks_packages(run, finished, repository):
    root, _ = finished
    result = run(repository / 'tools/run_tests.sh', MMLK_PYTHON=str(root / '.venv/bin/python'))
    assert result.returncode == 2
    for module in ('torch', 'mmengine', 'mmcv', 'mmseg'):
        assert f"{module}: ModuleNotFoundError: No module named '{module}'" in result.stderr
    assert 'mmlk: ' not in result.stderr
    assert 'pip install' in result.stderr
    assert not (repository / '.venv').exists()


def test_given_environment_that_does_not_exist(run, repository):
    result = run(repository / 'tools/run_tests.sh', MMLK_PYTHON='/nowhere/python')
    assert result.returncode == 2
    assert 'MMLK_PYTHON=/nowhere/python is not a program' in result.stderr

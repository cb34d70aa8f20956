"""The environment of the other family of OpenMMLab's packages."""

import sys
from pathlib import Path

import pytest
from miniature import REPOSITORY, make_source, make_wheel, needs_shell, write

from mmlk.compat.families import detect

pytestmark = needs_shell


#: Demo tests that are run with both families.
TASKS = ('segmentation', 'detection', 'classification')


@pytest.fixture
def with_onedl(repository, tmp_path) -> Path:
    """A repository whose second lock has a package with a wheel and one without; they lie in ``tmp_path``."""
    make_wheel(tmp_path, 'onedl-mmengine', 'mmengine')
    make_source(tmp_path, 'onedl-mmcv', 'mmcv')
    lock = 'onedl-mmengine==1.0\nonedl-mmcv==1.0  # built from source\n'
    write(repository / 'requirements/lock-onedl.txt', lock)
    return repository


def test_family_has_an_environment_and_tests_of_its_own(run, with_onedl, tmp_path):
    script = with_onedl / 'tools/run_tests.sh'
    result = run(script, '--family', 'onedl', '-k', 'two words', PIP_FIND_LINKS=str(tmp_path))
    assert result.returncode == 3, result.stdout + result.stderr
    assert f'Environment ready: {with_onedl}/.venv-onedl' in result.stdout
    assert not (with_onedl / '.venv').exists()
    arguments = result.stdout.splitlines()[-1].removeprefix(f'pytest {with_onedl} ')
    selected = ['tests/compat', *(f'tests/tools/test_{task}_demo.py' for task in TASKS)]
    assert arguments == str([*selected, '-k', 'two words'])

    # Paths that exist stand for that selection; nothing is installed any more.
    write(with_onedl / 'tests/ops/test_a.py', '')
    for place in ('tests/ops', 'tests/ops/test_a.py::test_b'):
        result = run(script, '-x', place, '--family=onedl')
        assert result.stdout.endswith(f'pytest {with_onedl} {["-x", place]}\n'), result.stdout + result.stderr
    assert 'Installing' not in result.stdout

    # A folder that the user names for the first environment is not used for the second.
    result = run(script, '--family', 'onedl', PIP_FIND_LINKS=str(tmp_path), MMLK_VENV='mine')
    assert result.returncode == 3 and (tmp_path / 'mine-onedl').exists() and not (tmp_path / 'mine').exists()


def test_tests_of_a_family_exist():
    text = (REPOSITORY / 'tools/run_tests.sh').read_text()
    for name in ('compat', *(f'tools/test_{task}_demo.py' for task in TASKS)):
        assert f'tests/{name}' in text and (REPOSITORY / 'tests' / name).exists()


def test_missing_package_of_the_other_family_names_its_extra(run, with_onedl):
    result = run(with_onedl / 'tools/run_tests.sh', '--family', 'onedl', MMLK_PYTHON='/bin/false')
    assert result.returncode == 2
    assert f"{with_onedl}[onedl,tests]'" in result.stderr


@pytest.mark.parametrize('arguments', [['--family', 'mmx'], ['--family='], ['-x', '--family']], ids=' '.join)
def test_unknown_family(run, repository, arguments):
    result = run(repository / 'tools/run_tests.sh', *arguments)
    assert result.returncode == 2
    assert '--family expects upstream or onedl, got ' in result.stderr
    assert not list(repository.glob('.venv*'))


def test_environment_that_holds_another_family(run):
    pytest.importorskip('mmseg')
    found = detect().name
    asked = 'onedl' if found == 'upstream' else 'upstream'
    arguments = ('--family', asked, '--version')
    result = run(REPOSITORY / 'tools/run_tests.sh', *arguments, MMLK_PYTHON=sys.executable, PYTHONPATH='')
    assert result.returncode == 2
    assert f'holds packages of the family {found}, not {asked}' in result.stderr
    assert f'bash tools/run_tests.sh --family {asked}' in result.stderr


def test_both_locks_pin_the_same_versions():
    locks = [
        dict(
            line.split('#')[0].strip().split('==')
            for line in (REPOSITORY / 'requirements' / name).read_text().splitlines()
            if '==' in line.split('#')[0]
        )
        for name in ('lock.txt', 'lock-onedl.txt')
    ]
    shared = locks[0].keys() & locks[1].keys()
    assert {name: locks[0][name] for name in shared} == {name: locks[1][name] for name in shared}
    assert locks[0].keys() - shared == {'mmcv-lite', 'mmdet', 'mmengine', 'mmpretrain', 'mmsegmentation'}
    assert len(locks[1].keys() - shared) == 10

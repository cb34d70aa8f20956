"""What the shell scripts of tools/ say about themselves and to wrong arguments."""

import os
import subprocess
from pathlib import Path

import pytest
from miniature import REPOSITORY, needs_shell

SCRIPTS = sorted(REPOSITORY.glob('tools/*.sh')) + [REPOSITORY / '.ci/run']

pytestmark = needs_shell


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_syntax_and_mode(script):
    subprocess.run(['bash', '-n', str(script)], check=True)
    assert os.access(script, os.X_OK) == (script.name != '_environment.sh')


@pytest.mark.parametrize('name', ['quickstart.sh', 'run_tests.sh'])
def test_help_shows_examples_and_makes_nothing(run, repository, name):
    result = run(repository / 'tools' / name, '--help')
    assert result.returncode == 0
    for word in ('Usage:', 'Examples:', f'bash tools/{name}', 'MMLK_PYTHON', 'MMLK_VENV'):
        assert word in result.stdout
    assert not (repository / '.venv').exists()


@pytest.mark.parametrize('name', ['quickstart.sh', 'run_tests.sh'])
def test_plain_sh_is_refused_with_the_right_command(name):
    if not Path('/bin/dash').exists():
        pytest.skip('no dash on this machine; its sh may be bash')
    result = subprocess.run(['/bin/dash', str(REPOSITORY / 'tools' / name)], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (2, f'Run this with bash: bash tools/{name}\n')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--iterations', '0'], "--iterations expects a positive whole number, got '0'"),
        (['--iterations', 'ten'], "got 'ten'"),
        (['--iterations'], "got ''"),
        (['--work-dir'], '--work-dir expects a folder'),
        (['--fast'], "unknown argument '--fast'"),
    ],
)
def test_quickstart_usage_errors(run, repository, arguments, message):
    result = run(repository / 'tools/quickstart.sh', *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert not (repository / '.venv').exists()

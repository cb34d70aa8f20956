"""tools/doctor.py in healthy and broken environments, through the command line."""

import ast
import json
import os
import subprocess
import sys

import pytest
from tool_runner import TOOLS, run_tool

DOCTOR = TOOLS / 'doctor.py'


def run(tmp_path, *arguments, flags=(), **environment):
    """Away from the checkout, as someone who installed nothing would."""
    return subprocess.run(
        [sys.executable, *flags, str(DOCTOR), *arguments],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | environment, timeout=300,
    )  # fmt: skip


def test_this_environment_is_healthy(tmp_path):
    result = run(tmp_path, '--json')
    report = json.loads(result.stdout)
    assert (result.returncode, report['problems']) == (0, []), result.stdout
    assert all(step['ok'] for step in report['steps'].values())
    assert report['steps']['mmcv']['facts']['compiled'] is report['family']['compiled_ops']
    assert 'PeLK' in report['steps']['mmlk']['facts']['registered']
    assert report['configs']['number'] > 80


def test_an_interpreter_without_any_package(tmp_path):
    result = run(tmp_path, flags=['-S', '-E'])
    assert result.returncode == 1 and result.stderr == ''
    assert f'problem: torch is not installed for {sys.executable}' in result.stdout
    assert result.stdout.endswith('\n\n1 problem\n')


def test_broken_packages(tmp_path):
    """The torch of another build, a second family, an OpenCV for an older NumPy, a terminal that knows only ASCII."""
    fake = tmp_path / 'fake'
    for name, source in {
        'torch': 'raise OSError("libtorch_cuda.so: wrong ELF class ✗")',
        'cv2': 'raise ImportError("numpy.core.multiarray failed to import")',
    }.items():
        (fake / name).mkdir(parents=True)
        (fake / name / '__init__.py').write_text(source)
    record = fake / 'onedl_mmdetection-3.5.1.dist-info'
    record.mkdir()
    (record / 'METADATA').write_text('Metadata-Version: 2.1\nName: onedl-mmdetection\nVersion: 3.5.1\n')
    result = run(tmp_path, '--quick', PYTHONPATH=str(fake), PYTHONIOENCODING='ascii')
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    for text in (
        'problem: mmdet is installed by mmdet and onedl-mmdetection',
        'problem: torch fails: OSError: libtorch_cuda.so: wrong ELF class ?',
        'problem: cv2 fails: it was compiled for NumPy 1 and this is NumPy 2',
        f'note: PYTHONPATH={fake}',
    ):
        assert text in result.stdout, result.stdout


@pytest.mark.parametrize('arguments', [[], ['--json']])
def test_an_old_python(monkeypatch, arguments):
    monkeypatch.setattr(sys, 'version_info', (3, 8, 10))
    result = run_tool('doctor.py', *arguments)
    assert result.code == 1
    what = f'Python 3.8 ({sys.executable}) is too old for mmlk'
    if arguments:
        assert json.loads(result.out)['problems'][0]['what'] == what
    else:
        assert f'problem: {what}\n  cure: use Python 3.11 or 3.12' in result.out


def test_an_old_python_can_read_it():
    ast.parse(DOCTOR.read_text(), feature_version=(3, 6))


def test_wrong_argument():
    assert run_tool('doctor.py', '--fast').code == 2


def test_help_has_examples():
    result = run_tool('doctor.py', '--help')
    assert result.code == 0 and 'tools/doctor.py --quick' in result.out

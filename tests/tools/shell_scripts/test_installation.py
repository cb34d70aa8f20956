"""The environment of the scripts: made once, mended, never in the folder of somebody else."""

import os
import pty
import shutil
import subprocess
import sys

import pytest
from miniature import REPOSITORY, make_wheel, needs_shell, write

pytestmark = needs_shell


@pytest.mark.parametrize(('full', 'cure'), [('target', 'MMLK_VENV='), ('tmp', 'TMPDIR=')])
def test_full_disk_is_told_before_anything_is_made(run, repository, tmp_path, full, cure):
    write(repository / 'requirements/lock.txt', 'torch==2.11.0\n')
    (tmp_path / 'small').mkdir()
    # Columns of df -Pk; the name of the file system holds a blank on purpose.
    body = f'case "$*" in *small*) free=1024;; *) free={1024 if full == "target" else 99999999};; esac\n'
    body += 'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"\necho "//a b 99999999 9 $free 42% /"\n'
    write(tmp_path / 'bin/df', f'#!/bin/sh\n{body}', executable=True)
    path = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    result = run(repository / 'tools/run_tests.sh', PATH=path, TMPDIR=str(tmp_path / 'small'))
    assert result.returncode == 2
    assert 'too full: 1 MiB free' in result.stderr
    assert cure in result.stderr
    assert not any((repository / '.venv').glob('*'))


def test_unreachable_index_then_second_run_goes_on(run, repository, tmp_path):
    make_wheel(tmp_path, 'tinypkg')
    write(repository / 'requirements/lock.txt', 'tinypkg==1.0\n')
    script = repository / 'tools/run_tests.sh'
    index = {'PIP_NO_INDEX': '', 'PIP_INDEX_URL': 'http://127.0.0.1:9/simple', 'PIP_RETRIES': '0'}

    result = run(script, **index)
    assert result.returncode == 2
    assert 'the package index could not be reached' in result.stderr
    assert 'PIP_INDEX_URL=' in result.stderr and 'HTTPS_PROXY=' in result.stderr

    result = run(script, PIP_FIND_LINKS=str(tmp_path))
    assert result.returncode == 3, result.stdout + result.stderr
    assert 'an earlier run was interrupted; making it anew' in result.stdout

    # Later the index is not asked for anything.
    result = run(script, **index)
    assert result.returncode == 3, result.stdout + result.stderr

    # A package that went missing is seen and put back.
    (next((repository / '.venv').glob('lib/python*/site-packages')) / 'tinypkg-1.0.dist-info/METADATA').unlink()
    shutil.rmtree(next((repository / '.venv').glob('lib/python*/site-packages/tinypkg-1.0.dist-info')))
    result = run(script, PIP_FIND_LINKS=str(tmp_path))
    assert 'differs from requirements/lock.txt (tinypkg 1.0)' in result.stdout
    assert result.returncode == 3, result.stdout + result.stderr


def test_quickstart_runs_all_stages_under_the_repository(finished):
    root, output = finished
    work_dir = root / 'work_dirs/quickstart'
    arguments = ['configs/ade20k/upernet_pelk_t.py', '--demo', '--work-dir', str(work_dir)]
    assert f'train {root} {arguments} None' in output
    config, fused = str(work_dir / 'upernet_pelk_t.py'), str(work_dir / 'fused/upernet_pelk_t')
    assert f'reparam {root} {[config, str(work_dir / "last.pth"), fused + ".pth"]}'[:-1] in output
    tested = [f'{fused}.py', f'{fused}.pth', '--work-dir', str(work_dir / 'fused/test')]
    assert f'test {root} {[*tested, "--out", str(work_dir / "fused/metrics.json")]}' in output
    assert (
        f'visualize_erf {root} {[f"{fused}.py", f"{fused}.pth", "--out", str(work_dir / "erf/erf.png")]}'[:-1] in output
    )
    assert f'quickstart_report {root} {[str(work_dir)]}' in output
    for word in (
        'environment',
        'training',
        'fusing',
        'testing fused',
        'receptive field',
        'report',
        'total',
        f'Results: {work_dir}',
        'What to try next',
    ):
        assert word in output
    assert (root / 'mmlk/.mim/configs/ade20k/upernet_pelk_t.py').exists()


def test_second_run_only_checks_and_starts_afresh(run, finished):
    root, _ = finished
    before = (root / '.venv/mmlk-environment').stat().st_mtime_ns
    result = run(root / 'tools/quickstart.sh', '--iterations', '7')
    assert result.returncode == 0, result.stdout + result.stderr
    assert "'--work-dir'" in result.stdout and '] 7\n' in result.stdout
    assert 'Installing' not in result.stdout and 'Making' not in result.stdout
    assert (root / '.venv/mmlk-environment').stat().st_mtime_ns == before


def test_relative_work_dir_belongs_to_the_caller_and_others_folders_are_kept(run, finished, tmp_path):
    root, _ = finished
    script = root / 'tools/quickstart.sh'
    for _ in range(2):
        result = run(script, '--work-dir=my results')
        assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / 'my results/last.pth').exists()

    precious = write(tmp_path / 'mine/thesis.txt', 'years of work')
    result = run(script, '--work-dir', 'mine')
    assert result.returncode == 2
    assert 'was not made by quickstart.sh; it is left as it is' in result.stderr
    assert precious.exists()


def test_failed_stage_ends_quickstart_with_its_status(run, finished):
    root, _ = finished
    result = run(root / 'tools/quickstart.sh', TRAIN_STATUS='5')
    assert result.returncode == 5
    assert "the stage 'training' ended with status 5" in result.stderr
    assert 'report' not in result.stdout


def test_run_tests_passes_arguments_and_status(run, finished):
    root, _ = finished
    result = run(root / 'tools/run_tests.sh', '-k', 'two words')
    assert result.returncode == 3
    assert result.stdout.endswith(f'pytest {root} {["-k", "two words"]}\n')


def test_script_through_a_link(run, finished, tmp_path):
    root, _ = finished
    (tmp_path / 'tests').symlink_to(root / 'tools/run_tests.sh')
    assert run(tmp_path / 'tests').stdout.endswith(f'pytest {root} []\n')


def test_changed_lock_is_followed(run, finished):
    root, _ = finished
    state = root / '.venv/mmlk-environment'
    before = state.read_text()
    lock = write(root / 'requirements/lock.txt', '# another nothing\n')
    assert 'Installing mmlk' in run(root / 'tools/run_tests.sh').stdout
    assert state.read_text() != before
    assert 'Installing' not in run(root / 'tools/run_tests.sh').stdout
    lock.write_text('# nothing\n')
    run(root / 'tools/run_tests.sh')


def test_two_runs_at_once_mend_an_interrupted_environment_once(base_environment, finished, tmp_path):
    root, _ = finished
    elsewhere = tmp_path / 'an environment'
    write(elsewhere / 'mmlk-environment', 'installing\n')
    left_over = write(elsewhere / 'lib/half', '')
    command = ['bash', str(root / 'tools/run_tests.sh')]
    options = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'text': True, 'cwd': tmp_path}
    environment = base_environment | {'MMLK_VENV': elsewhere.name}
    runs = [subprocess.Popen(command, env=environment, **options) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in runs]
    assert (elsewhere / 'mmlk-environment').read_text().startswith('ready ') and not left_over.exists()
    if not shutil.which('flock'):
        pytest.skip('no flock on this machine, so that two runs do not wait for each other')
    assert [process.returncode for process in runs] == [3, 3], outputs
    assert sorted('interrupted; making it anew' in output for output in outputs) == [False, True]
    assert sorted('waiting for it' in output for output in outputs) == [False, True]


@pytest.mark.parametrize('kind', ['folder', 'environment of another Python'])
def test_folder_of_somebody_else_is_never_touched(run, repository, tmp_path, kind):
    precious = write(tmp_path / 'mine/bin/python', '#!/bin/sh\nexit 1\n', executable=True)
    if kind != 'folder':
        write(tmp_path / 'mine/pyvenv.cfg', 'version = 3.9.2\n')
    result = run(repository / 'tools/run_tests.sh', MMLK_VENV=str(tmp_path / 'mine'))
    assert result.returncode == 2
    assert 'was not made by this script' in result.stderr
    assert precious.exists() and not (tmp_path / 'mine/mmlk-environment').exists()


def test_environment_made_by_hand_survives_a_failed_completion(run, repository):
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', repository / '.venv'], check=True)
    precious = write(repository / '.venv/notes.txt', '')
    write(repository / 'requirements/lock.txt', 'tinypkg==1.0\n')
    for _ in range(2):
        result = run(repository / 'tools/run_tests.sh')
        assert result.returncode == 1
        assert 'differs from requirements/lock.txt (tinypkg 1.0)' in result.stdout
        assert 'No module named pip' in result.stderr
        assert precious.exists()


def test_on_a_terminal_a_long_command_keeps_the_terminal(tmp_path):
    """pip draws its progress bar only where its output is a terminal; its errors have to be kept for the diagnosis."""
    code = (
        f'set -euo pipefail; root="{REPOSITORY}"; . "$root/tools/_environment.sh"\n'
        f'run_logged "{tmp_path}/log" bash -c "[ -t 1 ] && echo bar; echo trouble >&2; exit 4" || echo status $?'
    )
    shown = b''
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp('bash', ['bash', '-c', code])
    while True:
        try:
            chunk = os.read(terminal, 1024)
        except OSError:  # Linux ends a terminal whose other side is closed with an error
            break
        if not chunk:
            break
        shown += chunk
    os.waitpid(pid, 0)
    os.close(terminal)
    assert [line.strip() for line in sorted(shown.decode().split('\n'))] == ['', 'bar', 'status 4', 'trouble']
    assert (tmp_path / 'log').read_text() == 'trouble\n'

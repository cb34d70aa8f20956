"""The shell scripts of tools/, run on a miniature repository, so that nothing is downloaded.

The miniature has the real scripts and setup.py, an empty lock, a package of one line, and stand-ins for pytest and for
the Python tools that quickstart.sh calls.
"""

import os
import pty
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from mmlk.compat.families import detect

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(REPOSITORY.glob('tools/*.sh')) + [REPOSITORY / '.ci/run']
SETTINGS = ('MMLK_', 'PIP_', 'PYTHON', 'VIRTUAL_ENV', 'OMP_NUM_THREADS', 'NNODES', 'NODE_RANK', 'PORT', 'MASTER_ADDR')

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='the scripts need a POSIX shell')


def write(path: Path, text: str, executable: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    if executable:
        path.chmod(0o755)
    return path


def make_repository(root: Path) -> Path:
    for name in ('tools', 'requirements'):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns('*.pyc', '__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'LICENSE', 'mmlk/version.py'):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy2(REPOSITORY / name, root / name)
    for name in ('lock.txt', 'lock-onedl.txt'):
        write(root / 'requirements' / name, '# nothing\n')
    write(root / 'model-index.yml', 'Import: []\n')
    write(root / 'mmlk/__init__.py', '')
    write(root / 'mmlk/compat/__init__.py', '')
    shutil.copy2(REPOSITORY / 'mmlk/compat/families.py', root / 'mmlk/compat/families.py')
    write(root / 'configs/ade20k/upernet_pelk_t.py', 'model = dict()\n')
    write(
        root / 'pytest.py',
        'import os, sys\nif __name__ == "__main__":\n    print("pytest", os.getcwd(), sys.argv[1:])\n    sys.exit(3)\n',
    )
    write(
        root / 'tools/train.py',
        'import os, pathlib, sys\n'
        'work_dir = pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1])\n'
        'assert not any(path.suffix == ".pth" for path in work_dir.iterdir()), "not a fresh start"\n'
        '(work_dir / "last.pth").touch()\n'
        '(work_dir / "last_checkpoint").write_text(str(work_dir / "last.pth"))\n'
        'print("train", os.getcwd(), sys.argv[1:], os.environ.get("MMLK_DEMO_ITERS"))\n'
        'sys.exit(int(os.environ.get("TRAIN_STATUS", 0)))\n',
    )
    for name in ('reparam', 'test', 'visualize_erf', 'quickstart_report'):
        write(root / f'tools/{name}.py', f'import os, sys\nprint("{name}", os.getcwd(), sys.argv[1:])\n')
    return root


def build_tools(folder: Path) -> Path:
    """Return a folder that lends this environment's setuptools to others, so that nothing has to be downloaded."""
    folder.mkdir()
    for name in ('setuptools', 'wheel', 'packaging'):
        distribution = metadata.distribution(name)
        for top in {Path(file).parts[0] for file in distribution.files}:
            source = Path(distribution.locate_file(top))
            if top not in ('..', '__pycache__') and not top.endswith('.pth') and source.exists():
                (folder / top).symlink_to(source)
    return folder


def make_wheel(folder: Path, distribution: str, module: str = '') -> None:
    """Write version 1.0 of a distribution with one empty module."""
    name = distribution.replace('-', '_')
    with zipfile.ZipFile(folder / f'{name}-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr(f'{module or name}.py', '')
        info = f'{name}-1.0.dist-info'
        wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n')
        wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        wheel.writestr(f'{info}/RECORD', '')


def make_source(folder: Path, distribution: str, module: str) -> None:
    """Write version 1.0 of a distribution as source, which brings its build tool: a wheel that was there before."""
    name = f'{distribution.replace("-", "_")}-1.0'
    source = folder / name
    source.mkdir()
    make_wheel(source, distribution, module)
    write(source / 'PKG-INFO', f'Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n')
    settings = "[build-system]\nrequires = []\nbuild-backend = 'tool'\nbackend-path = ['.']\n"
    write(source / 'pyproject.toml', f"{settings}[project]\nname = '{distribution}'\nversion = '1.0'\n")
    write(
        source / 'tool.py',
        'import pathlib, shutil\n'
        'def build_wheel(target, config_settings=None, metadata_directory=None):\n'
        '    (wheel,) = pathlib.Path(".").glob("*.whl")\n'
        '    shutil.copy(wheel, target)\n'
        '    return wheel.name\n',
    )
    shutil.make_archive(str(folder / name), 'gztar', folder, name)
    shutil.rmtree(source)


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


def fake_python(folder: Path, body: str, names=('python3.12', 'python3.11', 'python3', 'python')) -> str:
    """Return a PATH on which every usual name of Python is the given shell script."""
    for name in names:
        write(folder / name, f'#!/bin/sh\n{body}\n', executable=True)
    return f'{folder}:/usr/bin:/bin'


# ---- all scripts ----------------------------------------------------------------------------------------------------


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


# ---- Python that cannot be used -------------------------------------------------------------------------------------


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


# ---- installation that cannot succeed -------------------------------------------------------------------------------


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


# ---- the environment is made once -----------------------------------------------------------------------------------


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


# ---- the other family of packages -----------------------------------------------------------------------------------


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


# ---- an environment that the user names -----------------------------------------------------------------------------


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


# ---- progress on a terminal -----------------------------------------------------------------------------------------


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


# ---- several processes, Slurm ---------------------------------------------------------------------------------------


def show_arguments(path: Path) -> Path:
    return write(path, '#!/bin/sh\nfor argument in "$@"; do printf "<%s>" "$argument"; done\n', executable=True)


def test_dist_scripts_start_torchrun(run, tmp_path):
    python = str(show_arguments(tmp_path / 'my python'))
    launcher = '<-m><torch.distributed.run><--nnodes={}><--node-rank={}><--master-addr={}><--master-port={}>'
    result = run(REPOSITORY / 'tools/dist_train.sh', 'a config.py', '2', '--work-dir', 'my dir', MMLK_PYTHON=python)
    assert result.stdout == (
        launcher.format(1, 0, '127.0.0.1', 29500)
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

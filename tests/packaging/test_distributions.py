"""What the built distributions hold, and that ``mmlk::`` configs are found in a wheel and in an editable install."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ('mmlk', 'configs', 'tools', 'requirements', 'tests/packaging')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'model-index.yml', 'README.md')
CONFIG = 'ade20k/upernet_pelk_t.py'

pytest.importorskip('setuptools')


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command of this Python without the caller's PYTHONPATH; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('PYTHON', 'PIP_'))}
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment | {'PIP_NO_INDEX': '1', 'PIP_CONFIG_FILE': os.devnull} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def copy_sources(target: Path) -> Path:
    """Copy what the distributions are built from, so that nothing is left behind in the repository."""
    ignore = shutil.ignore_patterns('__pycache__', '.mim', '*.egg-info')
    for name in PARTS:
        shutil.copytree(REPOSITORY / name, target / name, ignore=ignore)
    for name in FILES:
        if (REPOSITORY / name).exists():
            shutil.copy2(REPOSITORY / name, target / name)
    # What must not get into a distribution: byte code, and a file of an earlier build.
    for folder in (target / 'configs/ade20k/__pycache__', target / 'tools/__pycache__', target / 'mmlk/__pycache__'):
        folder.mkdir()
        (folder / 'left.cpython-311.pyc').touch()
    stale = target / 'build/lib/mmlk/.mim/configs/ade20k/deleted_long_ago.py'
    stale.parent.mkdir(parents=True)
    stale.touch()
    return target


def build_wheel(source: Path, target: Path) -> Path:
    run('-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '--quiet', '-w', target, source, cwd=target.parent)
    return next(target.glob('mmlk-*.whl'))


@pytest.fixture(scope='module')
def sources(tmp_path_factory) -> Path:
    return copy_sources(tmp_path_factory.mktemp('sources') / 'mmlk')


@pytest.fixture(scope='module')
def wheel(sources, tmp_path_factory) -> Path:
    return build_wheel(sources, tmp_path_factory.mktemp('wheel') / 'dist')


@pytest.fixture(scope='module')
def names(wheel) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def expected(*folders: str) -> set[str]:
    return {
        str(path.relative_to(REPOSITORY))
        for folder in folders
        for path in (REPOSITORY / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts and '.mim' not in path.parts
    }


def test_wheel_holds_configs_tools_and_model_index(names):
    found = {name.removeprefix('mmlk/.mim/') for name in names if name.startswith('mmlk/.mim/')}
    assert found == expected('configs', 'tools') | {'model-index.yml'}


def test_wheel_holds_the_package_and_nothing_else(names):
    package = {name for name in names if name.startswith('mmlk/') and not name.startswith('mmlk/.mim/')}
    assert {name for name in package if name.endswith('.py')} == {
        name for name in expected('mmlk') if name.endswith('.py')
    }
    tops = {name.split('/')[0] for name in names}
    assert tops == {'mmlk', next(name for name in tops if name.endswith('.dist-info'))}
    assert not [name for name in names if name.endswith('.pyc')]


def test_wheel_requires_nothing_by_itself(wheel, names):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in names if name.endswith('/METADATA'))).decode().splitlines()
    required = [line for line in metadata if line.startswith('Requires-Dist:')]
    assert required and [line for line in required if 'extra ==' not in line] == []
    extras = {line.split(': ')[1] for line in metadata if line.startswith('Provides-Extra:')}
    assert extras == {'openmmlab', 'onedl', 'tests', 'docs', 'export'}
    assert 'Requires-Python: >=3.11' in metadata


def test_links_of_an_editable_install_do_not_get_into_a_wheel(sources, names, tmp_path):
    """A checkout that was installed in editable mode holds mmlk/.mim as links; a wheel from it is the same wheel."""
    source = tmp_path / 'mmlk'
    shutil.copytree(sources, source, ignore=shutil.ignore_patterns('build', '*.egg-info'))
    mim = source / 'mmlk/.mim'
    mim.mkdir()
    (mim / 'configs').symlink_to('../../configs')
    (mim / 'tools').symlink_to('../../tools')
    with zipfile.ZipFile(build_wheel(source, tmp_path / 'dist')) as archive:
        assert sorted(archive.namelist()) == sorted(names)
        assert not archive.getinfo(f'mmlk/.mim/configs/{CONFIG}').is_dir()
    assert (mim / 'configs').is_symlink()


def test_wheel_through_a_source_distribution_is_the_same(sources, names, tmp_path):
    code = f'from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))'
    archive = tmp_path / run('-c', code, cwd=sources).splitlines()[-1]
    with zipfile.ZipFile(build_wheel(archive, tmp_path / 'dist')) as wheel:
        assert sorted(wheel.namelist()) == sorted(names)


LOAD = f"""
import json, mmlk
from mmengine.config import Config
config = Config.fromfile('mmlk::{CONFIG}')
print(json.dumps([mmlk.__file__, config.model.backbone.type, config.model.type]))
"""


def test_config_is_found_in_an_installed_wheel(wheel, tmp_path):
    pytest.importorskip('mmengine')
    site, elsewhere = tmp_path / 'site', tmp_path / 'elsewhere'
    elsewhere.mkdir()
    run('-m', 'pip', 'install', '--no-deps', '--quiet', '--target', site, wheel, cwd=elsewhere)
    module, backbone, model = json.loads(run('-c', LOAD, cwd=elsewhere, PYTHONPATH=str(site)).splitlines()[-1])
    assert Path(module) == site / 'mmlk/__init__.py'
    assert (backbone, model) == ('mmlk.PeLK', 'EncoderDecoder')
    assert not (site / 'mmlk/.mim/configs').is_symlink()
    # The command line tools of the wheel run as well.
    assert 'CONFIG' in run(site / 'mmlk/.mim/tools/train.py', '--help', cwd=elsewhere, PYTHONPATH=str(site)).upper()


def test_config_is_found_in_an_editable_install(tmp_path):
    pytest.importorskip('mmengine')
    source, site, elsewhere = copy_sources(tmp_path / 'mmlk'), tmp_path / 'site', tmp_path / 'elsewhere'
    elsewhere.mkdir()
    command = ('-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '--quiet', '--target', site)
    run(*command, '-e', source, cwd=elsewhere)
    mim = source / 'mmlk/.mim'
    assert {path.name: os.readlink(path) for path in mim.iterdir()} == {
        'configs': '../../configs',
        'tools': '../../tools',
        'model-index.yml': '../../model-index.yml',
    }
    # -S: the .pth files of this environment are not read, where mmlk may be installed from the repository itself.
    packages = sorted({sysconfig.get_path('purelib'), sysconfig.get_path('platlib')})
    code = f'import site, sys; site.addsitedir({str(site)!r}); sys.path += {packages!r}\n{LOAD}'
    module, backbone, model = json.loads(run('-S', '-c', code, cwd=elsewhere).splitlines()[-1])
    assert Path(module) == source / 'mmlk/__init__.py'
    assert (backbone, model) == ('mmlk.PeLK', 'EncoderDecoder')
    # An edit counts at once.
    (source / 'configs' / CONFIG).write_text("model = dict(type='Edited', backbone=dict(type='New'))\n")
    assert json.loads(run('-S', '-c', code, cwd=elsewhere).splitlines()[-1])[1:] == ['New', 'Edited']

    # Installing again, as after a pull, replaces links that lead nowhere.
    (mim / 'configs').unlink()
    (mim / 'configs').symlink_to('nowhere')
    run(*command, '--upgrade', '-e', source, cwd=elsewhere)
    assert (mim / 'configs' / CONFIG).exists()

"""A miniature of this repository, on which the shell scripts of tools/ run without a download.

It has the real scripts and setup.py, an empty lock, a package of one line, and stand-ins for pytest and for the Python
tools that quickstart.sh calls. Beside it: wheels and sources of empty packages, and programs that pretend.
"""

import os
import shutil
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

#: Mark of the tests that run a script.
needs_shell = pytest.mark.skipif(os.name != 'posix', reason='the scripts need a POSIX shell')


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


def fake_python(folder: Path, body: str, names=('python3.12', 'python3.11', 'python3', 'python')) -> str:
    """Return a PATH on which every usual name of Python is the given shell script."""
    for name in names:
        write(folder / name, f'#!/bin/sh\n{body}\n', executable=True)
    return f'{folder}:/usr/bin:/bin'

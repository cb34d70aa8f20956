"""Looks at a Python environment from inside, for tools/_environment.sh. Needs nothing but the standard library.

Run by the interpreter in question: with ``-I`` in an environment of ours, so that neither PYTHONPATH nor the current
folder stands in for what the environment lacks, and without it in an environment that a user gave.
"""

import hashlib
import importlib
import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path

PYTHONS = ('3.11', '3.12')
# What a lock's distribution is called when it is imported. mmlk comes first: it lets mmseg run on mmcv-lite.
IMPORTS = {
    'torch': 'torch',
    'torchvision': 'torchvision',
    'opencv-python-headless': 'cv2',
    'mmengine': 'mmengine',
    'mmcv-lite': 'mmcv',
    'mmsegmentation': 'mmseg',
    'mmdet': 'mmdet',
    'mmpretrain': 'mmpretrain',
    'onedl-mmengine': 'mmengine',
    'onedl-mmcv': 'mmcv',
    'onedl-mmsegmentation': 'mmseg',
    'onedl-mmdetection': 'mmdet',
    'onedl-mmpretrain': 'mmpretrain',
    'timm': 'timm',
    'pytest': 'pytest',
}


def python_version() -> str:
    return '{}.{}'.format(*sys.version_info[:2])


def canonical(name: str) -> str:
    return re.sub('[-_.]+', '-', name).lower()


def read_lock(lock: Path) -> dict[str, str]:
    """Return name and version of every pinned distribution."""
    lines = (line.split('#')[0].strip() for line in lock.read_text(encoding='utf-8').splitlines())
    pins = (line.split('==') for line in lines if line)
    return {canonical(name): version.strip() for name, version in pins}


def stamp(lock: Path) -> str:
    """Return the state of an environment that holds exactly ``lock``."""
    return f'ready {hashlib.sha256(lock.read_bytes()).hexdigest()} {python_version()}'


def inspect(lock: Path, root: Path, state: Path) -> str:
    """Say what the environment lacks.

    Returns:
        ``ready``; ``project``: only mmlk has to be installed; ``packages ...``: those named differ from the lock;
        ``python ...``: made by another Python than the one that runs it now.
    """
    written = state.read_text(encoding='utf-8').split() if state.exists() else []
    if python_version() not in PYTHONS or (written[:1] == ['ready'] and written[2:] != [python_version()]):
        return f'python {python_version()}'
    found = {canonical(item.metadata['Name']): item.version for item in metadata.distributions()}
    wrong = [f'{name} {version}' for name, version in read_lock(lock).items() if found.get(name) != version]
    if wrong:
        more = f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''
        return f'packages {", ".join(wrong[:3])}{more}'
    spec = importlib.util.find_spec('mmlk')
    ours = spec is not None and spec.origin is not None and Path(spec.origin).resolve().is_relative_to(root.resolve())
    complete = ours and 'mmlk' in found and (root / 'mmlk/.mim/configs').exists()
    return 'ready' if complete and ' '.join(written) == stamp(lock) else 'project'


def import_failures(modules: list[str]) -> list[str]:
    """Return one line for every module that cannot be imported."""
    failures = []
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken package may raise anything
            reason = str(error).strip().splitlines()
            failures.append(f'{module}: {type(error).__name__}: {reason[0] if reason else ""}')
    return failures


def verify(lock: Path) -> list[str]:
    """Import what the lock installed, mmlk first; return the failures."""
    pins = read_lock(lock)
    return import_failures(['mmlk', *(module for name, module in IMPORTS.items() if name in pins)])


def check_given(root: Path, modules: list[str]) -> tuple[str, list[str]]:
    """Look at an environment that somebody else made.

    Returns:
        Where mmlk comes from (``installed``, or ``path``: it has to be put on PYTHONPATH) and the import failures.
    """
    # The user may have named an older Python.
    if sys.version_info < (3, 11):  # noqa: UP036
        return 'installed', [f'Python {python_version()}: mmlk needs 3.11 or newer']
    sys.path[:] = [entry for entry in sys.path if Path(entry) != Path(__file__).parent]
    origin = 'installed'
    spec = importlib.util.find_spec('mmlk')
    if spec is None or spec.origin is None or not Path(spec.origin).resolve().is_relative_to(root.resolve()):
        origin = 'path'
        sys.path.insert(0, str(root))
    return origin, import_failures(['torch', 'mmengine', 'mmcv', 'mmlk', 'mmseg', *modules])


def main() -> int:
    command, *arguments = sys.argv[1:]
    failures: list[str] = []
    if command == 'inspect':
        print(inspect(*map(Path, arguments)))
    elif command == 'stamp':
        print(stamp(Path(arguments[0])))
    elif command == 'verify':
        failures = verify(Path(arguments[0]))
    elif command == 'check-given':
        origin, failures = check_given(Path(arguments[0]), arguments[1:])
        print(origin)
    else:
        raise SystemExit(f'unknown command {command!r}')
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())

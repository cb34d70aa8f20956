"""Made-up environments: packages that misbehave, distributions that do not go together."""

import sys
import tempfile
from pathlib import Path

import pytest

from mmlk.compat import families
from mmlk.diagnosis import packages
from mmlk.diagnosis.facts import Facts
from mmlk.diagnosis.machine import Machine
from mmlk.diagnosis.probes import Step

#: What requirements/lock.txt installs, as far as rules look at it.
GOOD = {
    'torch': '2.11.0',
    'torchvision': '0.26.0',
    'timm': '1.0.31',
    'numpy': '2.4.6',
    'opencv-python-headless': '5.0.0.93',
    'setuptools': '80.10.2',
    'ftfy': '6.3.1',
    'regex': '2026.11.15',
    'mmengine': '0.10.7',
    'mmcv-lite': '2.1.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
    'mmpretrain': '1.2.0',
}
TORCH = {
    'version': '2.11.0+cu130',
    'cuda_build': '13.0',
    'hip_build': None,
    'threads': 2,
    'cpu_capability': 'AVX512',
    'cuda_available': False,
    'gpus': [],
}


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make the given distributions the only ones there are, and say what of it is found."""

    def install(versions: dict[str, str]) -> tuple[dict[str, str], families.Family]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        for name, version in versions.items():
            record = folder / f'{name.replace("-", "_")}-{version}.dist-info'
            record.mkdir()
            (record / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'path', [str(folder)])
            return packages.installed(), families.detect()

    return install


@pytest.fixture
def facts(distributions):
    """What is found in the environment of the lock file, with changes."""

    def make(
        versions: dict[str, str | None] | None = None,
        steps: dict[str, Step] | None = None,
        python: tuple[int, int] = (3, 11),
        **machine,
    ) -> Facts:
        changed = {name: version for name, version in (GOOD | (versions or {})).items() if version is not None}
        found, family = distributions(changed)
        known = dict(
            system='Linux',
            libc='glibc 2.36',
            cores=4,
            usable_cores=4,
            memory_gib=(12.0, 16.0),
            disk_gib={'/data': 100.0},
            shm_gib=8.0,
            driver=None,
            compilers={'C': '/usr/bin/gcc', 'C++': '/usr/bin/g++'},
            headers=True,
            variables={},
        )
        working = {
            'torch': Step('torch', True, facts=TORCH),
            'torchvision': Step('torchvision', True, facts={'version': '0.26.0', 'works': True}),
            'cv2': Step('cv2', True, facts={'version': '5.0.0', 'works': True}),
        }
        return Facts(python, found, family, Machine(**known | machine), working | (steps or {}))

    return make


@pytest.fixture
def torch_step():
    """The step that imports torch, with changes in what it found."""
    return lambda **changes: {'torch': Step('torch', True, facts=TORCH | changes)}


@pytest.fixture
def fake_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put packages of our own before those installed: name -> source of its __init__.py."""

    def write(**sources: str) -> Path:
        folder = tmp_path / 'fake'
        for name, source in sources.items():
            (folder / name).mkdir(parents=True)
            (folder / name / '__init__.py').write_text(source)
        monkeypatch.setenv('PYTHONPATH', str(folder))
        return folder

    return write

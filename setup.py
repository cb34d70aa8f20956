"""Packaging of ``mmlk``: metadata, extras, and the ``mmlk/.mim`` folder.

OpenMMLab's tools look for the configs, command line tools and model index of a package in a folder ``.mim`` inside it,
and so does ``Config.fromfile('mmlk::...')``. In this repository those files live at the top, so ``build_py`` puts them
there: as links in an editable install, as copies in a wheel. It does so in ``build_py`` because that is the one command
that every way of installing runs; a subclass of ``develop`` would be skipped by a modern editable install.
"""

import ast
import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_ENTRIES = ('configs', 'tools', 'model-index.yml')
EXTRAS = ('openmmlab', 'onedl', 'tests', 'docs', 'export')


def read_version() -> str:
    """Return ``__version__`` from mmlk/version.py without importing the package (which would need torch)."""
    for node in ast.parse((ROOT / 'mmlk/version.py').read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '__version__':
            return ast.literal_eval(node.value)
    raise RuntimeError('mmlk/version.py does not assign __version__')


def read_requirements(name: str) -> list[str]:
    """Return the requirement lines of requirements/<name>.txt without comments and blank lines."""
    lines = (ROOT / f'requirements/{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in (raw.split('#')[0].strip() for raw in lines) if line]


def remove(path: Path) -> None:
    """Remove a link, file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy_entry(source: Path, target: Path) -> None:
    """Copy a file or folder, without Python's byte code."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]'))
    else:
        shutil.copy2(source, target)


class BuildPyWithMim(build_py):
    """``build_py`` that also fills ``mmlk/.mim``."""

    def run(self) -> None:
        super().run()
        mim = (ROOT if self.editable_mode else Path(self.build_lib).resolve()) / 'mmlk' / '.mim'
        mim.mkdir(parents=True, exist_ok=True)
        for name in MIM_ENTRIES:
            source, target = ROOT / name, mim / name
            # A kept build folder may hold files that have since been deleted from the repository.
            remove(target)
            if not self.editable_mode:
                copy_entry(source, target)
                continue
            try:
                target.symlink_to(os.path.relpath(source, mim), target_is_directory=source.is_dir())
            except (OSError, NotImplementedError):  # a file system or a Windows account without links
                copy_entry(source, target)


setup(
    name='mmlk',
    version=read_version(),
    description='Large-kernel ConvNets for MMSegmentation, MMDetection and MMPretrain',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    author='The mmlk authors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='computer vision, large kernel, semantic segmentation, object detection, image classification',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.11',
    packages=find_packages(include=['mmlk', 'mmlk.*']),
    package_data={'mmlk': ['**/*.json', '**/*.md', '**/*.txt', '**/*.yml', 'py.typed']},
    include_package_data=False,
    # torch and the OpenMMLab family exist under several names and builds; the user's choice is never replaced.
    install_requires=[],
    extras_require={name: read_requirements(name) for name in EXTRAS},
    cmdclass={'build_py': BuildPyWithMim},
    zip_safe=False,
)

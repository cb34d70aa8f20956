"""The lock, the extras and the files that describe the project agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PIN = re.compile(r'^[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.]*$')


def canonical(name: str) -> str:
    return re.sub('[-_.]+', '-', name).lower()


def requirement_lines(name: str) -> list[str]:
    text = (REPOSITORY / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    return [line for line in (raw.split('#')[0].strip() for raw in text.splitlines()) if line]


@pytest.fixture(scope='module')
def lock() -> dict[str, str]:
    pins = [line.split('==') for line in requirement_lines('lock')]
    return {canonical(name): version for name, version in pins}


def release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r'[0-9.]*[0-9]', version).group().split('.'))


def test_lock_pins_every_line_exactly_and_names_no_address():
    lines = requirement_lines('lock')
    assert [line for line in lines if not PIN.match(line)] == []
    names = [canonical(line.split('==')[0]) for line in lines]
    assert sorted(set(names)) == sorted(names)
    assert '://' not in (REPOSITORY / 'requirements/lock.txt').read_text(encoding='utf-8')


def test_lock_holds_one_provider_of_every_module(lock):
    assert {'torch', 'torchvision', 'mmengine', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'mmpretrain'} <= set(lock)
    assert 'opencv-python-headless' in lock and 'opencv-python' not in lock
    assert 'mmcv' not in lock and not [name for name in lock if name.startswith('onedl')]
    assert release(lock['setuptools']) < (81,)


@pytest.mark.parametrize('name', ['openmmlab', 'tests', 'docs', 'export'])
def test_lock_satisfies_the_extras_it_serves(lock, name):
    for line in requirement_lines(name):
        project, conditions = re.match(r'([A-Za-z0-9._-]+)(.*)', line).groups()
        version = release(lock[canonical(project)])
        for operator, bound in re.findall(r'(>=|<)([0-9.]+)', conditions):
            assert version >= release(bound) if operator == '>=' else version < release(bound), line


def test_extras_never_mix_the_two_families():
    upstream = {canonical(re.match('[A-Za-z0-9._-]+', line).group()) for line in requirement_lines('openmmlab')}
    onedl = {canonical(re.match('[A-Za-z0-9._-]+', line).group()) for line in requirement_lines('onedl')}
    assert not {name for name in upstream & onedl if name.startswith('mm')}
    assert {name for name in upstream if name.startswith('mm')} and {name for name in onedl if name.startswith('onedl')}


def test_pre_commit_uses_the_ruff_of_the_lock(lock):
    hooks = yaml.safe_load((REPOSITORY / '.pre-commit-config.yaml').read_text(encoding='utf-8'))
    versions = {
        dependency
        for repo in hooks['repos']
        for hook in repo['hooks']
        for dependency in hook.get('additional_dependencies', [])
    }
    assert versions == {f'ruff=={lock["ruff"]}'}


def test_build_requirements_of_pyproject_are_in_the_lock(lock):
    """The editable install is made without build isolation, so without the network."""
    build = tomllib.loads((REPOSITORY / 'pyproject.toml').read_text(encoding='utf-8'))['build-system']
    assert {canonical(re.match('[A-Za-z0-9._-]+', line).group()) for line in build['requires']} <= set(lock)


def test_citation_names_this_version_and_the_papers():
    citation = yaml.safe_load((REPOSITORY / 'CITATION.cff').read_text(encoding='utf-8'))
    version = re.search("__version__ = '(.*)'", (REPOSITORY / 'mmlk/version.py').read_text(encoding='utf-8')).group(1)
    assert citation['version'] == version
    papers = {reference['url'].rsplit('/', 1)[1] for reference in citation['references']}
    assert papers == {'2403.07589', '2203.06717', '2207.03620', '2401.12736', '2311.15599'}


def test_model_index_imports_files_that_exist():
    index = yaml.safe_load((REPOSITORY / 'model-index.yml').read_text(encoding='utf-8'))
    assert [name for name in index['Import'] if not (REPOSITORY / name).is_file()] == []
    metafiles = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob('configs/*/metafile.yml')}
    assert set(index['Import']) == metafiles

"""The documentation hangs together: index, links, headings, pictures, and the paths and names it speaks of."""

import glob
import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
PAGES = sorted(DOCS.rglob('*.md'))
#: Pages outside of docs/ that are read on the web as well.
OTHERS = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'mmlk').rglob('README.md'))]
#: Folders of the checkout that paths in the text begin with.
FOLDERS = ('.ci', 'benchmarks', 'configs', 'docs', 'mmlk', 'requirements', 'tests', 'tools')
#: What a path in the text may be that is made by a run.
MADE = ('benchmarks/results/', 'docs/_build')

NETWORKS = ('pelk', 'replknet', 'slak', 'shiftwise', 'unireplknet')


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r'^```.*?^```', '', page.read_text(), flags=re.M | re.S)


@cache
def anchors_of(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    anchors: set[str] = set()
    for heading in re.findall(r'^#+ +(.+?) *$', text_of(page), re.M):
        plain = re.sub(r'[`*]|\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower()
        slug = re.sub(r'[^\w\- ]', '', plain).replace(' ', '-')
        number = 0
        while (anchor := f'{slug}-{number}' if number else slug) in anchors:
            number += 1
        anchors.add(anchor)
    return anchors


def links_of(page: Path) -> list[tuple[str, str]]:
    """Targets and anchors of a page's links and pictures within the checkout."""
    targets = re.findall(r'\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)', text_of(page))
    return [
        target.partition('#')[::2] for target in targets if '://' not in target and not target.startswith('mailto:')
    ]


def toctree() -> list[str]:
    """Pages that the index lists."""
    trees = re.findall(r'^```\{toctree\}\n(.*?)^```', (DOCS / 'index.md').read_text(), re.M | re.S)
    return [line.strip() for tree in trees for line in tree.splitlines() if line.strip() and not line.startswith(':')]


def test_every_page_is_in_the_index_once():
    listed = toctree()
    expected = sorted(page.relative_to(DOCS).with_suffix('').as_posix() for page in PAGES if page.name != 'index.md')
    assert sorted(listed) == expected, 'docs/index.md lists every page of docs/ in one of its toctrees'


@pytest.mark.parametrize('page', PAGES + OTHERS, ids=name_of)
def test_links_and_anchors(page):
    for target, anchor in links_of(page):
        path = page.parent / target if target else page
        assert path.exists(), f'{name_of(page)} links to {target}, which is not there'
        if anchor and path.suffix == '.md':
            assert anchor in anchors_of(path.resolve()), f'{name_of(page)} links to {target}#{anchor}, no such heading'


@pytest.mark.parametrize('page', PAGES + OTHERS, ids=name_of)
def test_paths_of_the_checkout_exist(page):
    """`tools/train.py`, `configs/*/upernet_*.py`, `docs/{a,b}.md` and the commands of code blocks."""
    quoted = re.findall(r'`([^`\n]+)`', text_of(page))
    commands = re.findall(r'^\s*(?:python|bash) (\S+)', page.read_text(), re.M)
    missing = []
    for text in [*quoted, *commands]:
        for word in text.split():
            path = word.rstrip('.,;:')
            plain = re.fullmatch(rf'({"|".join(map(re.escape, FOLDERS))})/[\w./*{{}},-]*', path)
            if plain and '..' not in path and not path.startswith(MADE):
                missing += [one for one in expand(path) if not glob.glob(str(ROOT / one))]
    assert not missing, f'{name_of(page)} speaks of {", ".join(missing)}'


def expand(path: str) -> list[str]:
    """A path with one or more {a,b} as the paths it stands for."""
    match = re.search(r'\{([^{}]*)\}', path)
    if match is None:
        return [path]
    return [one for part in match[1].split(',') for one in expand(path[: match.start()] + part + path[match.end() :])]


@pytest.mark.parametrize('page', PAGES + OTHERS, ids=name_of)
def test_names_of_the_package_exist(page):
    """`mmlk.models.switch_to_deploy`, `mmlk.PeLK` of the registry, `mmlk::imagenet/pelk_t.py` of the configs."""
    text = page.read_text()
    for name in sorted(set(re.findall(r"(?<![\w./'-])mmlk(?:\.[A-Za-z_]\w*)+", text))):
        is_file = name.rpartition('.')[2] in ('json', 'log', 'onnx', 'png', 'pth')
        assert is_file or resolves(name), f'{name_of(page)} speaks of {name}'
    for name in sorted(set(re.findall(r"type='mmlk\.(\w+)'", text))):
        assert name in registered(), f"{name_of(page)} has type='mmlk.{name}'"
    for name in sorted(set(re.findall(r'mmlk::([\w/]+\.py)', text))):
        assert (ROOT / 'configs' / name).is_file(), f'{name_of(page)} has mmlk::{name}'


def resolves(name: str) -> bool:
    """Is this a module, something in one, or a name of the registry?"""
    parts = name.split('.')
    if len(parts) == 2 and parts[1] in registered():
        return True
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module('.'.join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@cache
def registered() -> frozenset[str]:
    registries = importlib.import_module('mmlk.registry')
    names: set[str] = set()
    for registry in vars(registries).values():
        if getattr(registry, 'scope', None) == 'mmlk':
            registry.import_from_location()
            names |= set(registry.module_dict)
    return frozenset(names)


@pytest.mark.parametrize('network', NETWORKS)
def test_page_of_a_network(network):
    """Paper, equations, architectures, sizes, differences from the authors, use."""
    text = (DOCS / f'{network}.md').read_text()
    assert re.search(r'\d{4}\.\d{5}', text), 'names the paper'
    headings = re.findall(r'^## (.+)$', text, re.M)
    assert {'Equations', 'Size', 'Use'} <= set(headings)
    assert any(re.search('silent|differ|choices', heading, re.I) for heading in headings), 'says where it differs'
    for name, (_, arch) in importlib.import_module('mmlk.factory.names').MODELS.items():
        if name.startswith(f'{network}_'):
            assert f'`{arch}`' in text, f'lists {arch}'


@pytest.mark.parametrize('page', ['ops', 'python_api', 'predict'])
def test_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    """All Python blocks of a page, one after the other, as somebody would paste them."""
    blocks = re.findall(r'^```python\n(.*?)^```', (DOCS / f'{page}.md').read_text(), re.M | re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict = {'__name__': 'page'}
    for block in blocks:
        exec(compile(block, f'{page}.md', 'exec'), names)
    # What is printed of comparisons.
    assert 'False' not in capsys.readouterr().out


def test_site_builds_without_a_warning(tmp_path):
    sphinx = pytest.importorskip('sphinx', reason='the extra `docs` is not installed')
    assert int(sphinx.__version__.split('.')[0]) >= 8
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', str(DOCS), str(tmp_path / 'html')]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-5000:]
    pages = {path.stem for path in (tmp_path / 'html').glob('*.html')}
    assert {page.stem for page in PAGES} <= pages
    # Nothing of it is fetched from elsewhere when it is read.
    for path in (tmp_path / 'html').glob('*.html'):
        assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="https?://', path.read_text()), path.name

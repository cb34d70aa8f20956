"""``mmlk::`` names are found from any directory, in every place where mmengine takes a config name."""

import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from mmlk.compat import config_scope
from mmlk.compat.config_scope import ConfigNotFoundError, resolve
from mmlk.errors import UsageError

MODEL_INDEX = 'Import:\n- configs/ade20k/metafile.yml\n'
METAFILE = """Models:
- Name: upernet_a
  Config: configs/ade20k/upernet_a.py
  Weights: https://example.org/upernet_a.pth
- Name: upernet_b
  Config: configs/ade20k/upernet_b.py
"""


def write_collection(root: Path, note: str) -> None:
    (root / 'configs/ade20k').mkdir(parents=True)
    (root / 'configs/_base_').mkdir()
    (root / 'configs/_base_/runtime.py').write_text("default_scope = 'mmseg'\nlevel = dict(type='Level', value=1)\n")
    text = f"_base_ = ['../_base_/runtime.py']\nnote = {note!r}\nmodel = dict(type='A', width=4)\n"
    (root / 'configs/ade20k/upernet_a.py').write_text(text)
    (root / 'configs/ade20k/upernet_b.py').write_text("_base_ = './upernet_a.py'\nmodel = dict(width=8)\n")
    (root / 'configs/ade20k/metafile.yml').write_text(METAFILE)
    (root / 'model-index.yml').write_text(MODEL_INDEX)


@pytest.fixture(params=['checkout', 'installed'])
def collection(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configs of a package of its own, in either place, seen from another directory."""
    package = tmp_path / 'root' / 'mmlk'
    package.mkdir(parents=True)
    write_collection(tmp_path / 'root', 'checkout')
    if request.param == 'installed':
        write_collection(package / '.mim', 'installed')
    monkeypatch.setattr(config_scope, '_PACKAGE', package)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    return tmp_path / 'root' if request.param == 'checkout' else package / '.mim'


def test_resolve(collection: Path):
    expected = str(collection / 'configs/ade20k/upernet_a.py')
    assert resolve('mmlk::ade20k/upernet_a.py') == expected
    assert resolve('mmlk::ade20k/upernet_a') == expected


def test_fromfile(collection: Path):
    config = Config.fromfile('mmlk::ade20k/upernet_b.py')
    assert config.model == dict(type='A', width=8) and config.default_scope == 'mmseg'
    assert config.note == ('checkout' if collection.name == 'root' else 'installed')
    assert config.filename == str(collection / 'configs/ade20k/upernet_b.py')
    assert Config.fromfile(filename='mmlk::ade20k/upernet_a').model.width == 4


def test_inheritance_from_another_directory(collection: Path):
    Path('own.py').write_text(
        "_base_ = ['mmlk::ade20k/upernet_a.py']\n"
        'model = dict(width=16)\n'
        'level = _base_.level\n'
        'level.value = 2\n'
        'copied = {{_base_.note}}\n'
    )
    config = Config.fromfile('own.py')
    assert config.model == dict(type='A', width=16)
    # Without a scope of ours in it: its type belongs to the host.
    assert config.level == dict(type='Level', value=2)
    assert config.copied == config.note


def test_inheritance_by_a_json_config(collection: Path):
    Path('own.json').write_text('{"_base_": "mmlk::ade20k/upernet_a.py", "model": {"width": 2}}')
    assert Config.fromfile('own.json').model == dict(type='A', width=2)


def test_hub(collection: Path):
    assert get_config('mmlk::ade20k/upernet_b.py').model.width == 8
    config = get_config('mmlk::ade20k/upernet_a.py', pretrained=True)
    assert config.model_path == 'https://example.org/upernet_a.pth'
    with pytest.raises(UsageError, match='no published weights for mmlk::ade20k/upernet_b.py'):
        get_config('mmlk::ade20k/upernet_b.py', pretrained=True)


@pytest.mark.parametrize('name', ['ade20k/upernet_c.py', 'upernet_a.py', 'ade20k/upernet_a.yml', 'ade20k', ''])
def test_unknown_name(name: str, collection: Path):
    for load in (resolve, Config.fromfile, get_config):
        with pytest.raises(ConfigNotFoundError) as caught:
            load(f'mmlk::{name}')
        message = str(caught.value)
        assert f'mmlk::{name} is not a config of mmlk' in message and '\n' not in message
        assert isinstance(caught.value, UsageError) and isinstance(caught.value, FileNotFoundError)


def test_nearest_names(collection: Path):
    with pytest.raises(ConfigNotFoundError, match='nearest: mmlk::ade20k/upernet_a.py, mmlk::ade20k/upernet_b.py'):
        resolve('mmlk::ade20k/uppernet_a.py')
    with pytest.raises(ConfigNotFoundError, match='nearest: none'):
        resolve('mmlk::qqq')


def test_nothing_outside_configs(collection: Path):
    (collection / 'setup.py').touch()
    with pytest.raises(ConfigNotFoundError):
        resolve('mmlk::../setup.py')
    with pytest.raises(ConfigNotFoundError):
        resolve(f'mmlk::{collection / "setup.py"}')


def test_package_without_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(config_scope, '_PACKAGE', tmp_path / 'mmlk')
    with pytest.raises(ConfigNotFoundError, match='mmlk has no configs.*install the package again'):
        resolve('mmlk::ade20k/upernet_a.py')


def test_other_names_are_left_to_mmengine(tmp_path: Path):
    (tmp_path / 'plain.py').write_text('a = 1\n')
    (tmp_path / 'child.py').write_text("_base_ = 'plain.py'\nb = 2\n")
    assert dict(Config.fromfile(tmp_path / 'child.py')) == dict(a=1, b=2)
    with pytest.raises(FileNotFoundError):
        Config.fromfile('absent.py')
    with pytest.raises(AssertionError, match='does not support to load nosuchpackage config'):
        get_config('nosuchpackage::a/b.py')


def test_scope_is_known_to_mmengine():
    from mmengine.config.utils import MODULE2PACKAGE

    assert MODULE2PACKAGE['mmlk'] == 'mmlk'


def test_works_without_pkg_resources(collection: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)  # as under setuptools 82
    Path('own.py').write_text("_base_ = 'mmlk::ade20k/upernet_a.py'\n")
    assert Config.fromfile('own.py').model.width == 4
    assert get_config('mmlk::ade20k/upernet_a.py').model.width == 4


@pytest.mark.parametrize('first', ['import mmlk, mmengine.hub', 'import mmengine.hub, mmlk'])
def test_either_order_of_imports(first: str, run_python):
    output = run_python(f"""
{first}
from mmengine.config import Config
for load in (Config.fromfile, mmengine.hub.get_config):
    try:
        load('mmlk::ade20k/no_such_config.py')
    except FileNotFoundError as error:
        print(type(error).__name__)
""")
    assert output.split() == ['ConfigNotFoundError'] * 2


def test_a_config_of_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    name = 'mmlk::ade20k/upernet_pelk_t.py'
    config = get_config(name)
    assert config.default_scope == 'mmseg' and config.model.backbone.type == 'mmlk.PeLK'
    Path('own.py').write_text(f"_base_ = ['{name}']\nmodel = dict(backbone=dict(drop_path_rate=0.5))\n")
    own = Config.fromfile('own.py')
    assert own.model.backbone.drop_path_rate == 0.5
    assert own.model.backbone.type == 'mmlk.PeLK' and own.train_cfg == config.train_cfg

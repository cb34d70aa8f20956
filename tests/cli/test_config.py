"""Reading configs: what is wrong with one is said with its name."""

import argparse

import pytest

from mmlk.cli.arguments import add_cfg_options
from mmlk.cli.config import read_config
from mmlk.errors import UsageError


def error_of(path, options=None) -> str:
    with pytest.raises(UsageError) as caught:
        read_config(str(path), options)
    return str(caught.value)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'model = dict(\n', "'(' was never closed in line 1 (SyntaxError; MMLK_TRACEBACK=1 shows where)"),
        (b'x = "\xff"\n', "codec can't decode byte 0xff"),
        (b'x = 1\0', 'source code string cannot contain null bytes'),
        (b"_base_ = ['nothing.py']\n", 'there is no file'),
        (b"_base_ = ['config.py']\n", '_base_ leads back to where it began, '),
        (b'_base_ = 5\n', "'int' object"),
        (b'x = 1 / 0\n', 'division by zero'),
        (b'import sys\nsys.exit(3)\n', 'it ends the program (SystemExit'),
        (b'raise Exception("never")\n', 'never (Exception'),
    ],
)
def test_file_that_cannot_be_read(tmp_path, content, reason):
    path = tmp_path / 'config.py'
    path.write_bytes(content)
    error = error_of(path)
    assert error.startswith(f'the config {path} cannot be read: ')
    assert reason in error


def test_mistake_in_a_base(tmp_path):
    """The file with the mistake is named, not the one that was given."""
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'config.py').write_text("_base_ = ['folder/middle.py', 'right.py']\n")
    (tmp_path / 'right.py').write_text('y = 1\n')
    (tmp_path / 'folder/middle.py').write_text("_base_ = ['broken.py']\n")
    (tmp_path / 'folder/broken.py').write_text('x = 1\nmodel = dict(]\n')
    error = error_of(tmp_path / 'config.py')
    assert error.startswith(f'the config {tmp_path}/folder/broken.py cannot be read: ')
    assert 'in line 2' in error


def test_circle_of_bases(tmp_path):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'config.py').write_text("_base_ = ['right.py', 'folder/other.py']\n")
    (tmp_path / 'right.py').write_text('x = 1\n')
    (tmp_path / 'folder/other.py').write_text("_base_ = '../config.py'\n")
    path = tmp_path / 'config.py'
    assert error_of(path).endswith(f'where it began, {path} -> {tmp_path}/folder/other.py -> {path}')
    # A base that is read twice is no circle.
    (tmp_path / 'folder/other.py').write_text("_base_ = '../right.py'\ny = 2\n")
    (tmp_path / 'config.py').write_text("_base_ = ['folder/other.py', 'third.py']\n")
    (tmp_path / 'third.py').write_text("_base_ = 'folder/none.py'\n")
    (tmp_path / 'folder/none.py').write_text('z = 3\n')
    assert read_config(str(path)).z == 3


def test_yaml_with_code(tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text(f'model: !!python/object/apply:os.mkdir [{tmp_path}/canary]\n')
    assert 'could not determine a constructor' in error_of(path)
    assert not (tmp_path / 'canary').exists()


def test_options_without_a_place(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('model = dict(depth=[1, 2])\n')
    assert read_config(str(path), {'model.width': 5}).model.width == 5
    error = error_of(path, {'model.depth.7': 5})
    assert error.startswith(f'--cfg-options does not fit the config {path}: ')


@pytest.mark.parametrize('option', ['model', 'a=[1,2', 'a=(1,(2)', 'a=' + '(' * 1200 + ')' * 1200])
def test_options_that_are_none(option, capsys):
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(['--cfg-options', 'good=1', option])
    assert stop.value.code == 2
    assert 'expected KEY=VALUE with brackets in pairs, got ' + option[:20] in capsys.readouterr().err


def test_options():
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    args = parser.parse_args(['--cfg-options', 'a.b=(1,2)', 'c=x', '--cfg-options', 'd=[1,[2,3]]', 'e=a=b'])
    assert args.cfg_options == {'a.b': (1, 2), 'c': 'x', 'd': [1, [2, 3]], 'e': 'a=b'}

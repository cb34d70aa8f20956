"""tools/check_data.py: what it prints and the status it ends with."""

import re
import runpy

import pytest
from tool_runner import TOOLS, run_tool

from mmlk.datasets import check
from mmlk.datasets.demo.ade20k import generate_ade20k


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return generate_ade20k(tmp_path_factory.mktemp('ade20k'), num_train=3, num_val=1, size=96, progress=False)


def test_nothing_wrong(data):
    result = run_tool('check_data.py', 'ade20k', data)
    assert result.code == 0, result.err
    for row in (
        r'folder +. ' + re.escape(str(data)),
        r'layout +. images/{training,validation}/\*.jpg and annotations',
        r'training +. 3 pictures, generated were 3',
        r'training, read +. 3 of 3 pairs',
        r'classes +. 150: wall, building, ',
        r'result +. no problems',
    ):
        assert re.search(row, result.out), (row, result.out)
    assert 'problem:' not in result.out


def test_a_line_for_every_problem(data, tmp_path, monkeypatch):
    for path in ('images/training', 'annotations/training', 'images/validation', 'annotations/validation'):
        (tmp_path / 'data/ade/ADEChallengeData2016' / path).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    # The folder of the configs is the default.
    result = run_tool('check_data.py', 'ade20k')
    assert result.code == 1
    lines = [line for line in result.out.splitlines() if line.startswith('problem: ')]
    assert len(lines) == 4 and '4 problems' in result.out
    root = 'data/ade/ADEChallengeData2016'
    assert f'problem: {root}/images/training: holds no files; unpack ADEChallengeData2016.zip there' in lines


def test_all_and_sample(data):
    assert '1 of 3 pairs' in run_tool('check_data.py', 'ade20k', data, '--sample', '1').out
    assert '3 of 3 pairs' in run_tool('check_data.py', 'ade20k', data, '--all').out


@pytest.mark.parametrize(
    ('name', 'first', 'last'),
    [
        ('ade20k', '   1 wall', ' 150 flag'),
        ('cityscapes', '   0 road', '  18 bicycle'),
        ('coco', '   0 person', '  79 toothbrush'),
        ('imagenet', '   0 tench, Tinca tinca', ' 999 toilet tissue, toilet paper, bathroom tissue'),
    ],
)
def test_classes(name, first, last):
    result = run_tool('check_data.py', name, '--classes')
    lines = result.out.splitlines()
    assert result.code == 0 and (lines[0], lines[-1]) == (first, last)


def test_classes_without_the_package_that_names_them(monkeypatch):
    monkeypatch.setattr('mmlk.cli.data_check.class_names', lambda name, expected: None)
    error = run_tool('check_data.py', 'ade20k', '--classes').error
    assert error == 'the classes of ade20k are named by mmseg, found no such package; install it'


@pytest.mark.parametrize('arguments', [[], ['pascal'], ['coco', '--sample', '0'], ['coco', '--all', '--sample', '3']])
def test_wrong_usage(arguments):
    result = run_tool('check_data.py', *arguments)
    assert result.code == 2
    assert 'usage: check_data.py' in result.err


def test_help_has_examples_and_the_tool_knows_what_can_be_checked():
    result = run_tool('check_data.py', '--help')
    assert result.code == 0
    assert 'examples:\n  python tools/check_data.py ' in result.out
    tool = runpy.run_path(str(TOOLS / 'check_data.py'))
    assert set(tool['NAMES']) == set(check.EXPECTED) and tool['SAMPLE'] == check.SAMPLE

"""benchmarks/sparse_demo.py and benchmarks/sparsity_overhead.py, without the hours."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from result_files import RUN
from tool_runner import TINY

from mmlk.benchmarks.results import find_errors
from mmlk.errors import UsageError


def load(repository, name):
    spec = importlib.util.spec_from_file_location(name, repository / 'benchmarks' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def demo(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return load(repository, 'sparse_demo')


def arguments(demo, monkeypatch, *given):
    monkeypatch.setattr(sys, 'argv', ['sparse_demo.py', *map(str, given)])
    return demo.parse_args()


class Training:
    """Stands for tools/train.py: writes the log of a run whose mIoU is 40 + seed, 2 less if it is sparse."""

    def __init__(self, code=0):
        self.code = code
        self.runs = []

    def __call__(self, command, stdout, stderr, env):
        config, folder = command[2], command[command.index('--work-dir') + 1]
        seed = int(next(option for option in command if option.startswith('randomness.seed=')).partition('=')[2])
        sparse = 'DynamicSparsityHook' in Path(config).read_text()
        self.runs.append((sparse, seed, env['OMP_NUM_THREADS'], env['MMLK_DEMO_ITERS']))
        stdout.write('one line\nerror: something is wrong\n')
        log = Path(folder) / '20261122_000000' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True, exist_ok=True)
        value = 40.0 + seed - 2 * sparse
        records = [{'loss': 1.0, 'step': 1} | ({'density': 0.6} if sparse else {}),
                   {'mIoU': value, 'present/mIoU': value, 'aAcc': 80.0, 'step': 1}]  # fmt: skip
        log.write_text('\n'.join(map(json.dumps, records)))
        return SimpleNamespace(returncode=self.code)


def test_comparison(demo, monkeypatch, tmp_path, capsys):
    training = Training()
    monkeypatch.setattr(subprocess, 'run', training)
    # Of the commit.
    monkeypatch.setattr(demo, 'describe_run', lambda device: RUN)
    target = tmp_path / 'result.json'
    args = arguments(
        demo, monkeypatch, '--seeds', 0, 2, '--iterations', 7, '--work-dir', tmp_path / 'runs', '--json', target
    )
    demo.run(args)
    assert sorted(training.runs) == [(sparse, seed, '1', '7') for sparse in (False, True) for seed in (0, 2)]
    result = json.loads(target.read_text())
    assert find_errors(result) == []
    row = result['comparison']['mIoU']
    assert (row['dense_mean'], row['sparse_mean']) == (41.0, 39.0)
    assert row['dense_std'] == pytest.approx(2**0.5)
    assert row['ratio'] == pytest.approx(39 / 41)
    assert [run.get('density') for run in result['rows']] == [None, 0.6, None, 0.6]
    assert 'dense 41.00 (1.41), sparse 39.00 (1.41), ratio 0.951' in capsys.readouterr().out
    # Finished runs are not made again; a new seed is, and so is another setting, but not its dense runs.
    demo.run(args)
    assert len(training.runs) == 4
    demo.run(arguments(demo, monkeypatch, '--seeds', 0, 1, '--iterations', 7, '--work-dir', tmp_path / 'runs'))
    assert len(training.runs) == 6
    demo.run(
        arguments(demo, monkeypatch, '--seeds', 0, '--iterations', 7, '--init', 'erk', '--work-dir', tmp_path / 'runs')
    )
    assert len(training.runs) == 7


def test_failed_run(demo, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, 'run', Training(code=2))
    args = arguments(demo, monkeypatch, '--seeds', 0, '--jobs', 1, '--work-dir', tmp_path)
    with pytest.raises(UsageError, match='dense run with seed 0 failed: error: something is wrong; all of it is in'):
        demo.run(args)
    assert not list(tmp_path.rglob('finished.json'))


@pytest.mark.parametrize(
    ('given', 'message'),
    [(['--config', 'configs/none.py'], 'expected a config file, found none at'), (['--seeds', 1, 1], '--seeds must')],
)
def test_bad_input(given, message, demo, monkeypatch, tmp_path):
    with pytest.raises(UsageError, match=message):
        demo.run(arguments(demo, monkeypatch, *given, '--work-dir', tmp_path))


def test_overhead(repository, monkeypatch, tmp_path):
    from mmengine.config import Config

    cfg = Config.fromfile(repository / 'configs/ade20k/upernet_pelk_t.py')
    cfg.merge_from_dict({key: eval(value) for key, _, value in (option.partition('=') for option in TINY)})
    cfg.dump(tmp_path / 'tiny.py')
    overhead = load(repository, 'sparsity_overhead')
    target = tmp_path / 'overhead.json'
    given = [tmp_path / 'tiny.py', '--device', 'cpu', '--image-size', 64, '--seconds', 0.01, '--json', target]
    monkeypatch.setattr(sys, 'argv', ['sparsity_overhead.py', *map(str, given)])
    overhead.run(overhead.parse_args())
    result = json.loads(target.read_text())
    assert find_errors(result) == []
    (row,) = result['rows']
    assert row['layers'] == 16
    assert row['ratio'] == pytest.approx(row['sparse']['median_ms'] / row['dense']['median_ms'])
    assert row['overhead'] == pytest.approx(row['hook']['median_ms'] / row['dense']['median_ms'])

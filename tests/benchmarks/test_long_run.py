"""benchmarks/long_run.py: the line through memory, what is read of a process, and a short run."""

import gc
import importlib.util
import json
import mmap
import multiprocessing
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from children import in_children
from tool_runner import TINY

from mmlk.benchmarks.long_run import Sample, growth, look, theil_sen
from mmlk.benchmarks.results import find_errors
from mmlk.errors import UsageError

SAMPLE = Sample(0.0, 0, 1000, 500, 2000, 20, 40, 3, 2)


@pytest.fixture
def script(repository, monkeypatch):
    monkeypatch.chdir(repository)
    spec = importlib.util.spec_from_file_location('long_run', repository / 'benchmarks' / 'long_run.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(script, monkeypatch, *given):
    monkeypatch.setattr(sys, 'argv', ['long_run.py', *map(str, given)])
    return script.parse_args()


def test_slope_by_hand():
    # Slopes of the pairs: 1, 1, 10/3, 1, 4.5, 8; the middle of the sorted six is between 1 and 10/3.
    slope = theil_sen([0, 1, 2, 3], [0, 1, 2, 10])
    assert slope.median == pytest.approx((1 + 10 / 3) / 2)
    assert (slope.low, slope.high, slope.points) == (1, 8, 4)


def test_slope_of_noise_and_of_growth():
    generator = np.random.default_rng(0)
    x = np.arange(40) / 20
    noise = generator.normal(size=40) * 30
    # Peaks, such as validations, that a line by least squares would follow.
    noise[[5, 30, 35]] += 5000
    flat, growing = theil_sen(x, 9e5 + noise), theil_sen(x, 9e5 + 200 * x + noise)
    assert flat.low < 0 < flat.high
    assert growing.low < 200 < growing.high
    assert growing.low > 100
    assert abs(np.polyfit(x, 9e5 + noise, 1)[0]) > abs(flat.median) + 100


def test_intervals_hold_what_they_promise():
    generator = np.random.default_rng(1)
    x = np.arange(30)
    inside = [
        slope.low <= 3 <= slope.high
        for slope in (theil_sen(x, 3 * x + generator.standard_t(3, size=30)) for _ in range(300))
    ]
    assert 0.92 < np.mean(inside) < 0.985


def test_too_few_points():
    with pytest.raises(ValueError, match='three different positions or more, got 2'):
        theil_sen([0, 0, 1], [1, 2, 3])


def test_growth_is_per_1000_iterations_and_after_the_warm_up():
    samples = [
        replace(SAMPLE, iteration=10 * i, rss_kib=1000 + (5 * i if i > 50 else 900 - i))
        for i in range(201)
        for _ in range(2)
    ]
    slope = growth(samples, 'rss_kib', begin=600, window=50)
    assert slope.median == pytest.approx(500)
    assert slope.points == 29
    assert growth(samples, 'tree_kib', begin=600, window=50).high == 0


def new_memory(mebibytes):
    """Pages that the process did not have before; malloc may take some that it has kept."""
    memory = mmap.mmap(-1, mebibytes * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for _ in range(mebibytes):
        memory.write(b'1' * 2**20)
    return memory


def _hold(ready, done):
    memory = new_memory(8)
    ready.set()
    done.wait(60)
    memory.close()


def look_at_this_process():
    """With a child and with more files and memory than before."""
    # What earlier tests have left would go in between, with its files and memory.
    gc.collect()
    before = look(os.getpid(), 0.0, 0)
    context = multiprocessing.get_context('fork')
    ready, done = context.Event(), context.Event()
    child = context.Process(target=_hold, args=(ready, done))
    child.start()
    memory = new_memory(64)
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    try:
        assert ready.wait(60)
        after = look(os.getpid(), 1.25, 7)
        assert (after.seconds, after.iteration) == (1.2, 7)
        assert after.children == before.children + 1
        assert after.descriptors >= before.descriptors + 5
        assert after.tree_descriptors > after.descriptors + 2
        # Pages that something else gives back in between may be missing.
        assert 62 * 2**10 <= after.rss_kib - before.rss_kib < 80 * 2**10
        assert after.tree_kib - before.tree_kib >= 69 * 2**10
        assert after.rss_kib > after.anonymous_kib >= 64 * 2**10
        assert after.threads == len(os.listdir('/proc/self/task'))
    finally:
        done.set()
        child.join()
        for descriptor in descriptors:
            os.close(descriptor)
    memory.close()
    # It has ended.
    assert look(child.pid, 0.0, 0) is None


def test_look_at_a_process():
    # In one of its own, in which nothing else runs.
    assert in_children(look_at_this_process) == [0]


def test_iteration_of_a_log(script, tmp_path):
    log = tmp_path / 'scalars.json'
    lines = [json.dumps({'lr': 0.1, 'loss': 1.0, 'step': step}) for step in range(10, 5000, 10)]
    log.write_text('\n'.join([*lines, json.dumps({'mIoU': 3.0, 'step': 4}), '{"lr": 0.1, "st']))
    assert script.last_iteration({log}) == 4990
    assert script.last_iteration(set()) == 0


def test_the_network_is_that_of_the_tests(script):
    assert set(TINY) - {'test_dataloader.dataset.indices=8'} < set(script.OPTIONS)


def test_short_run(script, demo_root, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('MMLK_DEMO_ROOT', str(demo_root))
    target, figure = tmp_path / 'result.json', tmp_path / 'figure.png'
    script.run(
        arguments(
            script, monkeypatch, '--iterations', 20, '--workers', 0, '--interval', 0.2, '--work-dir', tmp_path / 'run',
            '--json', target, '--figure', figure, '--cfg-options', 'default_hooks.logger.interval=1',
            'val_dataloader.dataset.indices=2',
        )
    )  # fmt: skip
    result = json.loads(target.read_text())
    assert find_errors(result) == []
    # No workers; MMEngine asks git for a version whenever it saves, which a look may or may not meet.
    assert result['counts']['children'] in ({'least': 0, 'most': 0}, {'least': 0, 'most': 1})
    assert result['rows'][-1]['iteration'] == 20
    assert result['rows'][-2]['rss_kib'] > 200 * 1024
    assert 'resident' in capsys.readouterr().out
    assert figure.read_bytes().startswith(b'\x89PNG')
    # Validations and checkpoints on the way.
    output = (tmp_path / 'run' / 'output.log').read_text()
    assert output.count('Saving checkpoint') >= 10
    assert output.count('Iter(val) [2/2]') >= 10


def test_failed_run(script, monkeypatch, tmp_path):
    args = arguments(script, monkeypatch, '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_iters=-1')
    monkeypatch.setattr(script, 'command_of', lambda args: [sys.executable, '-c', 'import sys; sys.exit("error: no")'])
    with pytest.raises(UsageError, match='the training failed: error: no; all of it is in .*output.log'):
        script.run(args)
    with pytest.raises(UsageError, match='too short for 0 looks at it'):
        script.evaluate([], 2000)
    with pytest.raises(UsageError, match='expected a config file, found none at'):
        script.run(arguments(script, monkeypatch, '--config', 'none.py'))

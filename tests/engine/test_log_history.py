"""Logged scalars are kept as far back as the log looks, and no further."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from sparse_runs import ADAMW, Network, Probe, runner

from mmlk.engine import LogHistoryHook
from mmlk.errors import UsageError

HOOK = dict(type='mmlk.LogHistoryHook', max_length=12)


def train(folder, *hooks, window=10, custom=(), length=40, **more):
    run = runner(folder, *hooks, model=Network(), optim_wrapper=dict(optimizer=ADAMW), length=length, **more)
    run.log_processor.window_size, run.log_processor.custom_cfg = window, list(custom)
    run.train()
    return run


def logged(folder):
    """The lines of the log without times."""
    (path,) = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if 'time' not in name} for line in lines]


def lengths(run):
    return {name: len(history.data[0]) for name, history in run.message_hub.log_scalars.items()}


def test_the_log_stays_what_it_is(tmp_path):
    """And so do the values that are kept."""
    kept, all_of_it = train(tmp_path / 'kept', HOOK), train(tmp_path / 'all')
    assert logged(tmp_path / 'kept') == logged(tmp_path / 'all')
    assert [line['step'] for line in logged(tmp_path / 'kept')][-3:] == [20, 30, 40]
    assert set(lengths(all_of_it).values()) == {40}
    assert set(lengths(kept).values()) == {12}
    for kind in range(2):
        last = all_of_it.message_hub.get_scalar('train/loss').data[kind][-12:]
        np.testing.assert_array_equal(kept.message_hub.get_scalar('train/loss').data[kind], last)


def test_windows_count(tmp_path):
    assert lengths(train(tmp_path / 'window', HOOK, window=25))['train/loss'] == 25
    custom = [dict(data_src='loss', log_name='mean_loss', method_name='mean', window_size=30)]
    run = train(tmp_path / 'custom', HOOK, custom=custom)
    assert lengths(run)['train/loss'] == 30


@pytest.mark.parametrize('window', [dict(window_size='global'), {}])
def test_everything_is_kept_where_it_is_looked_at(window, tmp_path):
    custom = [dict(data_src='loss', log_name='least_loss', method_name='min', **window)]
    run = train(tmp_path, HOOK, custom=custom)
    assert set(lengths(run).values()) == {40}


def test_current_values_need_no_window(tmp_path):
    custom = [dict(data_src='loss', log_name='last_loss', method_name='current')]
    run = train(tmp_path, HOOK, custom=custom)
    assert set(lengths(run).values()) == {12}


def test_a_long_history_is_shortened_by_a_resume(tmp_path):
    train(tmp_path, save_every=40)
    seen = []
    probe = Probe(lambda run, done: seen.append(lengths(run)['train/loss']))
    train(tmp_path, HOOK, probe, length=44, resume=True)
    assert seen[1:] == [12, 12, 12]


@pytest.mark.parametrize('value', [0, -5, 2.0, True, None])
def test_bad_argument(value):
    with pytest.raises(UsageError, match=f'needs a positive integer as max_length, got {value!r}'):
        LogHistoryHook(max_length=value)


@pytest.mark.parametrize('host', ['imagenet/pelk_t', 'ade20k/upernet_pelk_t', 'coco/cascade_mask_rcnn_pelk_t'])
def test_base_configs_have_it(host, repository):
    cfg = Config.fromfile(repository / 'configs' / f'{host}.py')
    assert cfg.default_hooks.log_history == dict(type='mmlk.LogHistoryHook')

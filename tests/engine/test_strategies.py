"""FSDP in two processes on the CPU: the run, its checkpoints and a resume equal those of one process."""

import json
from functools import partial

import pytest
import torch
from children import in_children
from mmengine.config import Config
from process_runs import free_port, scalars_of, tiny_config, train
from tool_runner import run_tool

from mmlk.cli.run import choose_checkpoint, drop_strategy, enable_amp
from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.errors import UsageError

STRATEGIES = 'configs/_base_/strategies'
#: As in test_processes.py; 1.2e-7 was measured.
ROUNDING = 1e-6


def fsdp_config(repository, folder, demo_root, until, **entries):
    cfg = tiny_config(folder, 2, repository, demo_root, iterations=8)
    cfg.merge_from_dict(Config.fromfile(repository / STRATEGIES / 'fsdp.py').to_dict())
    cfg.merge_from_dict(
        {'train_cfg.max_iters': until, 'train_cfg.val_interval': until, 'default_hooks.checkpoint.interval': until}
    )
    # Averages of weights that are in pieces are not what is tested here.
    cfg.custom_hooks = cfg.custom_hooks[:1]
    cfg.merge_from_dict(entries)
    return cfg


def test_fsdp_equals_one_process(tmp_path, repository, demo_root):
    one = tiny_config(tmp_path / 'one', 4, repository, demo_root, iterations=8)
    one.custom_hooks = one.custom_hooks[:1]
    first = fsdp_config(repository, tmp_path / 'first', demo_root, until=5)
    saved = str(tmp_path / 'first' / 'iter_5.pth')
    second = fsdp_config(repository, tmp_path / 'second', demo_root, until=8, resume=True, load_from=saved)
    port = free_port()
    together = [partial(train, first, rank, 2, port) for rank in range(2)]
    assert in_children(partial(train, one), *together) == [0, 0, 0]
    assert in_children(*(partial(train, second, rank, 2, port) for rank in range(2))) == [0, 0]

    expected, found = (load_checkpoint_file(tmp_path / name / 'iter_8.pth') for name in ('one', 'second'))
    assert expected.keys() == found.keys() and expected['state_dict'].keys() == found['state_dict'].keys()
    for name, value in expected['state_dict'].items():
        allowed = ROUNDING * max(1.0, value.abs().max().item())
        assert type(found['state_dict'][name]) is torch.Tensor
        assert (found['state_dict'][name] - value).abs().max().item() <= allowed, name
    # Layer decay, and no weight decay for vectors only: parameters are cut to flat pieces after it is settled.
    settings = [
        {group['param_name']: (group['lr_scale'], group['weight_decay']) for group in each['optimizer']['param_groups']}
        for each in (expected, found)
    ]
    assert settings[0] == settings[1] and {decay for _, decay in settings[1].values()} == {0.0, 0.05}
    metrics = [scalars_of(tmp_path / name)[-1] for name in ('one', 'second')]
    assert metrics[0]['mIoU'] == pytest.approx(metrics[1]['mIoU'], abs=0.1)
    assert len(scalars_of(tmp_path / 'second')) == 3 + 1


@pytest.mark.parametrize('name', ['fsdp', 'deepspeed'])
def test_testing_needs_no_strategy(repository, name):
    cfg = Config.fromfile(repository / STRATEGIES / f'{name}.py')
    assert cfg.runner_type == 'FlexibleRunner'
    drop_strategy(cfg)
    assert 'runner_type' not in cfg and 'strategy' not in cfg


def test_options_that_cannot_work_with_deepspeed(repository, tmp_path, monkeypatch):
    cfg = Config.fromfile(repository / STRATEGIES / 'deepspeed.py')
    cfg.work_dir = str(tmp_path)
    with pytest.raises(UsageError, match='--resume takes checkpoint files; DeepSpeed writes folders.*fsdp.py'):
        choose_checkpoint(cfg, 'auto')
    cfg.optim_wrapper = dict(type='DeepSpeedOptimWrapper')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    with pytest.raises(UsageError, match='--amp does not work with DeepSpeed.*strategy.bf16'):
        enable_amp(cfg)


def test_strategy_without_several_processes(repository, tmp_path, demo_root, monkeypatch):
    monkeypatch.setenv('MMLK_DEMO_ROOT', str(demo_root))
    bases = [f'{repository}/configs/ade20k/upernet_pelk_t.py', f'{repository}/{STRATEGIES}/fsdp.py']
    config = tmp_path / 'upernet_pelk_t_fsdp.py'
    config.write_text(f'_base_ = {json.dumps(bases)}\n')
    result = run_tool('train.py', config, '--demo', '--work-dir', tmp_path / 'run')
    assert 'bash tools/dist_train.sh CONFIG' in result.error and 'FSDP' in result.error

"""Several processes without a GPU: started, equal to one process, and ended when one of them dies."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from children import ending, fork, in_children
from mmengine.config import Config
from process_runs import CONFIG, SMALL, free_port, scalars_of, tiny_config, tool_as_process, torchrun_variables, train
from tool_runner import TOOLS, run_tool
from torch import nn

from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.engine import DistributedDataParallel, processes, start_processes
from mmlk.errors import UsageError
from mmlk.launcher import end_processes
from mmlk.nn import CpuSyncBatchNorm

#: Largest difference of weights and their averages after 20 steps of AdamW, relative to the largest of the layer or to
#: 1: one unit of float32 (1.2e-7) was measured.
ROUNDING = 1e-6
#: Of metrics in percent: a pixel of a class that few have, on the edge between two.
PIXELS = 0.1


@pytest.fixture
def as_process(monkeypatch):
    """Puts this process where torchrun would put it."""

    def put(rank=0, world_size=1):
        for name, value in torchrun_variables(rank, world_size, free_port()).items():
            monkeypatch.setenv(name, value)

    yield put
    end_processes()


def config(**entries):
    return Config(dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='nccl'))) | entries)


def test_group_and_wrapper(as_process):
    as_process()
    cfg = config(
        find_unused_parameters=True,
        val_evaluator=dict(type='IoUMetric'),
        test_evaluator=[dict(type='IoUMetric', collect_device='cpu'), dict(type='DumpResults')],
    )
    start_processes(cfg)
    assert dist.get_backend() == 'gloo' and dist.get_world_size() == 1
    assert cfg.model_wrapper_cfg == dict(
        type='mmlk.DistributedDataParallel', broadcast_buffers=False, find_unused_parameters=True
    )
    # The config of a run stays one for GPUs.
    assert cfg.env_cfg.dist_cfg.backend == 'nccl'
    assert cfg.val_evaluator.collect_device == 'gpu'
    assert [metric.collect_device for metric in cfg.test_evaluator] == ['cpu', 'gpu']
    start_processes(cfg)
    end_processes()
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (dict(type='MMDistributedDataParallel', static_graph=True), 'mmlk.DistributedDataParallel'),
        (dict(bucket_cap_mb=5), 'mmlk.DistributedDataParallel'),
        (dict(type='MMSeparateDistributedDataParallel'), 'MMSeparateDistributedDataParallel'),
    ],
)
def test_wrapper_of_the_config(as_process, given, expected):
    as_process()
    cfg = config(model_wrapper_cfg=given)
    start_processes(cfg)
    assert cfg.model_wrapper_cfg.type == expected
    assert dict(cfg.model_wrapper_cfg) == given | dict(type=expected, find_unused_parameters=False)


def test_nothing_without_a_launcher():
    cfg = config(launcher='none')
    start_processes(cfg)
    assert not dist.is_initialized() and 'model_wrapper_cfg' not in cfg


@pytest.mark.parametrize('hook', ['EMAHook', 'mmlk.DynamicSparsityHook'])
def test_hooks_that_need_whole_weights(as_process, hook):
    as_process()
    cfg = config(strategy=dict(type='mmlk.FSDPStrategy'), custom_hooks=[dict(type='ERFHook'), dict(type=hook)])
    with pytest.raises(UsageError, match=f'mmlk.FSDPStrategy leaves each process a part .* has {hook}, which needs'):
        start_processes(cfg)
    cfg.custom_hooks = cfg.custom_hooks[:1]
    start_processes(cfg)


def test_gpus_are_left_to_mmengine(as_process, monkeypatch):
    as_process(rank=1, world_size=2)
    monkeypatch.setattr(processes, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    cfg = config()
    start_processes(cfg)
    assert not dist.is_initialized() and 'model_wrapper_cfg' not in cfg
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(UsageError, match='a GPU for each of 2 processes on this machine, found 1; start 1'):
        start_processes(cfg)


def test_others_that_do_not_come(as_process):
    as_process(world_size=2)
    with pytest.raises(UsageError, match='process 0 of 2 does not find the others: .*MASTER_PORT'):
        start_processes(config(env_cfg=dict(dist_cfg=dict(timeout=1))))


def test_wrapper_on_the_cpu(as_process):
    as_process()
    start_processes(config())
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4))
    names = list(model.state_dict())
    wrapped = DistributedDataParallel(model, device_ids=[0])
    assert wrapped.device_ids is None and type(model[1]) is CpuSyncBatchNorm
    wrapped(torch.ones(2, 3, 5, 5)).sum().backward()
    assert list(model.state_dict()) == names


def five_steps(model, part):
    """SGD on a part of every batch; the loss is a mean over it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64)[part]
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def small_network(norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.GELU(), nn.Conv2d(4, 2, 3), norm(2)).double()


def with_sync_batch_norm(folder, rank):
    dist.init_process_group('gloo', init_method=f'file://{folder / "store"}', rank=rank, world_size=2)
    model = DistributedDataParallel(small_network(nn.SyncBatchNorm), device_ids=[rank], broadcast_buffers=False)
    five_steps(model, slice(3 * rank, 3 * rank + 3))
    torch.save(model.module.state_dict(), folder / f'process{rank}.pth')
    end_processes()


def test_training_with_sync_batch_norm(tmp_path):
    """In float64, so that only the order of sums differs from one process with the whole batch."""
    assert in_children(*(partial(with_sync_batch_norm, tmp_path, rank) for rank in range(2))) == [0, 0]
    model = small_network(nn.BatchNorm2d)
    five_steps(model, slice(None))
    for rank in range(2):
        found = torch.load(tmp_path / f'process{rank}.pth', weights_only=True)
        assert found.keys() == model.state_dict().keys()
        for name, value in model.state_dict().items():
            assert (found[name] - value).abs().max().item() < 1e-10, name


def test_two_processes_equal_one(tmp_path, repository, demo_root):
    """Weights, averages, rates by layer, metrics of an odd number of pictures, and what checkpoints hold."""
    one = tiny_config(tmp_path / 'one', 4, repository, demo_root)
    two = tiny_config(tmp_path / 'two', 2, repository, demo_root)
    port = free_port()
    together = [partial(train, two, rank, 2, port) for rank in range(2)]
    assert in_children(partial(train, one), *together) == [0, 0, 0]
    first, second = (load_checkpoint_file(tmp_path / name / 'iter_20.pth') for name in ('one', 'two'))
    assert first.keys() == second.keys()
    for part in ('state_dict', 'ema_state_dict'):
        assert first[part].keys() == second[part].keys()
        for name, expected in first[part].items():
            allowed = ROUNDING * max(1.0, expected.abs().max().item())
            assert (second[part][name] - expected).abs().max().item() <= allowed, (part, name)
    groups = [checkpoint['optimizer']['param_groups'] for checkpoint in (first, second)]
    assert groups[0] == groups[1] and len({group['initial_lr'] for group in groups[0]}) > 3
    assert [len(checkpoint['training_state']['random']) for checkpoint in (first, second)] == [1, 2]
    metrics = [scalars_of(tmp_path / name)[-1] for name in ('one', 'two')]
    for name in ('mIoU', 'aAcc', 'present/mIoU'):
        assert metrics[0][name] == pytest.approx(metrics[1][name], abs=PIXELS)


def command_of(work_dir, iterations):
    """Arguments of tools/train.py for a short run that saves every second iteration."""
    options = [
        'default_hooks.checkpoint.interval=2',
        'val_dataloader.dataset.indices=1',
        f'train_cfg.max_iters={iterations}',
    ]
    return [CONFIG, '--demo', '--work-dir', str(work_dir), '--cfg-options', *SMALL, *options]


def wait_for(path, children=()):
    """Wait until a run has written its first checkpoint."""
    for _ in range(1200):
        if path.is_file():
            return
        assert not any(os.waitpid(child, os.WNOHANG)[0] for child in children), 'a process has ended early'
        time.sleep(0.1)
    raise AssertionError(f'no {path} after two minutes')


@pytest.fixture
def in_repository(monkeypatch, repository, demo_root):
    monkeypatch.chdir(repository)
    monkeypatch.setenv('MMLK_DEMO_ROOT', str(demo_root))
    monkeypatch.setenv('MMLK_DEMO_ITERS', '1000')


def test_killed_process_ends_the_other(tmp_path, in_repository):
    """Without torchrun; the run then goes on with --resume, and is tested, by two processes again."""
    work_dir, port = tmp_path / 'run', free_port()

    def start(name, *arguments):
        files = [tmp_path / f'{name}{rank}.json' for rank in range(2)]
        return files, [fork(partial(tool_as_process, files[rank], rank, 2, port, *arguments)) for rank in range(2)]

    (survivor, _), children = start('killed', 'train.py', *command_of(work_dir, 1000))
    wait_for(work_dir / 'last_checkpoint', children)
    os.kill(children[1], signal.SIGKILL)
    begin = time.monotonic()
    assert ending(children[0]) == 0 and time.monotonic() - begin < 60
    assert ending(children[1]) == -signal.SIGKILL
    result = json.loads(survivor.read_text())
    (error,) = [line for line in result['err'].splitlines() if line.startswith('error: ')]
    assert error == (
        'error: another process of this run has ended or does not answer, see what it has said; stopped; continue with '
        'the same command and --resume'
    )
    assert result['code'] == 1 and 'Traceback' not in result['err']

    newest = int((work_dir / 'last_checkpoint').read_text().rpartition('_')[2].removesuffix('.pth'))
    files, children = start('resumed', 'train.py', *command_of(work_dir, newest + 2), '--resume')
    assert [ending(child) for child in children] == [0, 0]
    first, second = (json.loads(file.read_text()) for file in files)
    assert first['code'] == second['code'] == 0 and not first['group'] and not second['group']
    assert f'resuming from {work_dir}/iter_{newest}.pth' in first['out']
    assert f'{work_dir}/iter_{newest + 2}.pth' in first['out']
    # Changes of --demo, progress and tables are those of the first; MMEngine prints where it reads a checkpoint.
    assert all(line.startswith('Loads checkpoint') for line in second['out'].splitlines())

    out = tmp_path / 'metrics.json'
    tested = [CONFIG, work_dir / f'iter_{newest + 2}.pth', '--demo', '--work-dir', tmp_path / 'tested', '--out', out]
    options = ['--cfg-options', *SMALL, 'test_dataloader.dataset.indices=3']
    files, children = start('tested', 'test.py', *tested, *options)
    assert [ending(child) for child in children] == [0, 0]
    together = json.loads(out.read_text())
    assert run_tool('test.py', *tested, *options).code == 0
    assert json.loads(out.read_text()) == pytest.approx(together, nan_ok=True)


def test_dist_train_with_a_killed_process(tmp_path, in_repository):
    """As from the command line, by torchrun: what the user sees, and when."""
    command = ['bash', str(TOOLS / 'dist_train.sh'), *command_of(tmp_path / 'run', 1000)]
    command.insert(3, '2')
    environment = os.environ | dict(MMLK_PYTHON=sys.executable, OMP_NUM_THREADS='1')
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        wait_for(tmp_path / 'run' / 'last_checkpoint')
        workers = Path(f'/proc/{run.pid}/task/{run.pid}/children').read_text().split()
        os.kill(int(workers[1]), signal.SIGKILL)
        begin = time.monotonic()
        out, err = run.communicate(timeout=60)
    assert time.monotonic() - begin < 60 and run.returncode == 128 + signal.SIGKILL
    assert out.count('--demo changes the config') == 1
    *_, last = err.strip().splitlines()
    assert re.fullmatch(r'error: process \d \(pid \d+\) was ended by SIGKILL .* continues with .* --resume', last)
    assert 'Traceback' not in err
    assert err.count('error: ') <= 2


def test_started_without_a_launcher(tmp_path, in_repository, monkeypatch):
    for name in torchrun_variables(0, 1, 0):
        monkeypatch.delenv(name, raising=False)
    result = run_tool('train.py', *command_of(tmp_path, 2), '--launcher', 'pytorch')
    assert result.error.startswith('--launcher pytorch expects to be started by torchrun: bash tools/dist_train.sh')
    assert not list(tmp_path.iterdir()) and '--demo' not in result.out

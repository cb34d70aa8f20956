"""Runs of UperNet with PeLK-T, as small as can be, in one process or as one of several."""

import json
import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tool_runner import TINY, run_tool
from torch.nn.modules.batchnorm import _BatchNorm

from mmlk.cli.arguments import add_cfg_options, make_parser
from mmlk.cli.run import build_runner
from mmlk.datasets.demo.demo_config import apply_demo
from mmlk.launcher import end_processes

CONFIG = 'configs/ade20k/upernet_pelk_t.py'
#: Options that make network and pictures small.
SMALL = [
    *TINY,
    'model.data_preprocessor.size=(32,32)',
    'model.test_cfg.mode=whole',
    'train_dataloader.dataset.pipeline.2.scale=(32,32)',
    'train_dataloader.dataset.pipeline.3.crop_size=(32,32)',
    'val_dataloader.dataset.pipeline.1.scale=(32,32)',
    'test_dataloader.dataset.pipeline.1.scale=(32,32)',
]


@HOOKS.register_module()
class FrozenNorms(Hook):
    """Every BatchNorm uses its stored statistics in training."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def torchrun_variables(rank, world_size, port):
    """What torchrun puts into the environment of a process."""
    numbers = dict(RANK=rank, WORLD_SIZE=world_size, LOCAL_RANK=rank, LOCAL_WORLD_SIZE=world_size, MASTER_PORT=port)
    return dict(MASTER_ADDR='127.0.0.1', **{name: str(value) for name, value in numbers.items()})


def tiny_config(folder, batch_size, repository, demo_root, iterations=20, val_pictures=7):
    """A config without dropout and with frozen norms, in which learning rates decay by layer and weights are averaged.

    Pictures are flipped and their colours changed at random.
    """
    cfg = Config.fromfile(repository / CONFIG)
    apply_demo(cfg, iterations=iterations, data_root=demo_root)
    parser = make_parser('', '')
    add_cfg_options(parser)
    cfg.merge_from_dict(parser.parse_args(['--cfg-options', *SMALL]).cfg_options)
    cfg.merge_from_dict(
        {
            'work_dir': str(folder),
            'train_dataloader.batch_size': batch_size,
            'val_dataloader.dataset.indices': val_pictures,
            'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.9,
            'default_hooks.checkpoint.interval': iterations,
            'default_hooks.logger.interval': 1,
            'find_unused_parameters': True,
        }
    )
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.norm_cfg.type = 'SyncBN'
        head.dropout_ratio = 0.0
    cfg.custom_hooks = [dict(type='FrozenNorms'), dict(type='EMAHook', momentum=0.05)]
    return cfg


def train(cfg, rank=None, world_size=1, port=0):
    """Train as one of several processes, or alone without a rank."""
    torch.set_num_threads(1)
    if rank is not None:
        os.environ.update(torchrun_variables(rank, world_size, port))
        cfg.launcher = 'pytorch'
    build_runner(cfg, 'train_loop', 'val_loop').train()
    end_processes()


def scalars_of(folder):
    """Records of losses and metrics, in the order in which they were logged."""
    (log,) = Path(folder).glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def tool_as_process(result, rank, world_size, port, name, *arguments):
    """Run a tool as one of several processes; code, output and errors go to the file ``result``."""
    torch.set_num_threads(1)
    os.environ.update(torchrun_variables(rank, world_size, port))
    done = run_tool(name, *arguments, '--launcher', 'pytorch')
    result.write_text(json.dumps(dict(code=done.code, out=done.out, err=done.err, group=dist.is_initialized())))

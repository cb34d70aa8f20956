"""Several processes without a GPU, which MMEngine's runner does not start itself."""

from __future__ import annotations

import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mmlk.errors import UsageError
from mmlk.launcher import Place, find_place
from mmlk.nn.sync_batch_norm import sync_batch_norm_on_cpu
from mmlk.registry import MODEL_WRAPPERS

#: Hooks that read or write all weights in every process.
NEED_WHOLE_WEIGHTS = ('DynamicSparsityHook', 'EMAHook')


@MODEL_WRAPPERS.register_module()
class DistributedDataParallel(MMDistributedDataParallel):
    """MMEngine's wrapper, for models on the CPU as well: there, SyncBN becomes :class:`mmlk.nn.CpuSyncBatchNorm`.

    Args:
        module: Model.
        device_ids: GPU of this process; ignored for a model on the CPU.
        **kwargs: Arguments of ``MMDistributedDataParallel``, such as ``find_unused_parameters``.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs) -> None:
        if all(parameter.device.type == 'cpu' for parameter in module.parameters()):
            device_ids = None
            sync_batch_norm_on_cpu(module)
        super().__init__(module, device_ids=device_ids, **kwargs)


def start_processes(cfg: Config) -> None:
    """Bring the processes of a launcher together, before a runner is built from ``cfg``.

    On GPUs MMEngine's runner does so, by NCCL. Without one, a gloo group is started here and ``cfg.model_wrapper_cfg``
    becomes ``mmlk.DistributedDataParallel``. Does nothing with ``cfg.launcher='none'``.

    Raises:
        UsageError: The process was not started by the launcher, the strategy of the config cannot work, there are more
            processes than GPUs, or they do not find each other.
    """
    place = find_place(cfg.get('launcher', 'none'))
    _check_strategy(cfg, alone=place is None)
    if place is None:
        return
    if place.rank > 0:
        # They are those of the first process.
        warnings.simplefilter('ignore')
    if get_device() != 'cpu':
        _require_gpu(place)
        return
    if not dist.is_initialized():
        _start_gloo(place, cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout'))
    if 'runner_type' not in cfg:
        cfg.model_wrapper_cfg = _wrapper_of(cfg)
    _collect_by_group(cfg)


def _check_strategy(cfg: Config, alone: bool) -> None:
    """Raise ``UsageError`` where FSDP or DeepSpeed cannot work."""
    strategy = (cfg.get('strategy') or {}).get('type', '')
    if 'FSDP' not in strategy and 'DeepSpeed' not in strategy:
        return
    if alone:
        raise UsageError(f'strategy.type {strategy} needs several processes: bash tools/dist_train.sh CONFIG GPUS')
    for hook in cfg.get('custom_hooks') or []:
        kind = str(hook.get('type')) if isinstance(hook, dict) else type(hook).__name__
        if kind.rpartition('.')[2] in NEED_WHOLE_WEIGHTS:
            raise UsageError(
                f'strategy.type {strategy} leaves each process a part of the weights, custom_hooks has {kind}, which '
                'needs all; leave out one of the two'
            )


def _require_gpu(place: Place) -> None:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else place.local_world_size
    if place.local_world_size > gpus:
        raise UsageError(
            f'expected a GPU for each of {place.local_world_size} processes on this machine, found {gpus}; start '
            f'{gpus}, or let every process see all GPUs (with Slurm --gres, not --gpus-per-task)'
        )


def _start_gloo(place: Place, seconds: float | None) -> None:
    timeout = None if seconds is None else timedelta(seconds=seconds)
    try:
        dist.init_process_group('gloo', rank=place.rank, world_size=place.world_size, timeout=timeout)
    except (dist.DistError, ValueError) as error:
        raise UsageError(
            f'process {place.rank} of {place.world_size} does not find the others: {error}; MASTER_ADDR and '
            'MASTER_PORT must name the first machine and a free port of it'
        ) from error


def _wrapper_of(cfg: Config) -> dict:
    """The wrapper of the config with our type, or ours as MMEngine sets up its own."""
    wrapper = dict(cfg.get('model_wrapper_cfg') or dict(broadcast_buffers=False))
    wrapper.setdefault('find_unused_parameters', cfg.get('find_unused_parameters', False))
    if wrapper.get('type', 'MMDistributedDataParallel') in ('MMDistributedDataParallel', 'DistributedDataParallel'):
        wrapper['type'] = 'mmlk.DistributedDataParallel'
    return wrapper


def _collect_by_group(cfg: Config) -> None:
    """Let results for metrics go through the process group; by default they go through files in the current folder."""
    for name in ('val_evaluator', 'test_evaluator'):
        evaluator = cfg.get(name) or []
        for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
            if isinstance(metric, dict) and 'metrics' not in metric:
                # By this name all_gather is meant, on whatever device the group works.
                metric.setdefault('collect_device', 'gpu')

"""Training loops, optimizer construction and hooks for MMEngine; importing this package registers them."""

from mmlk.engine.hooks import (
    AccelerateHook,
    CheckpointHook,
    DynamicSparsityHook,
    ERFHook,
    FiniteLossHook,
    LogHistoryHook,
    SwitchToDeployHook,
)
from mmlk.engine.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from mmlk.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmlk.engine.processes import DistributedDataParallel, start_processes
from mmlk.engine.strategies import FSDPStrategy

__all__ = [
    'AccelerateHook',
    'CheckpointHook',
    'DistributedDataParallel',
    'DynamicSparsityHook',
    'ERFHook',
    'EpochBasedTrainLoop',
    'FSDPStrategy',
    'FiniteLossHook',
    'IterBasedTrainLoop',
    'LayerDecayOptimWrapperConstructor',
    'LogHistoryHook',
    'SwitchToDeployHook',
    'start_processes',
]

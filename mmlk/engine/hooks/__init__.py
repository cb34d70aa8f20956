"""Hooks for MMEngine's runner."""

from mmlk.engine.hooks.accelerate import AccelerateHook
from mmlk.engine.hooks.checkpoint import CheckpointHook
from mmlk.engine.hooks.dynamic_sparsity import DynamicSparsityHook
from mmlk.engine.hooks.erf import ERFHook
from mmlk.engine.hooks.finite_loss import FiniteLossHook
from mmlk.engine.hooks.log_history import LogHistoryHook
from mmlk.engine.hooks.switch_to_deploy import SwitchToDeployHook

__all__ = [
    'AccelerateHook',
    'CheckpointHook',
    'DynamicSparsityHook',
    'ERFHook',
    'FiniteLossHook',
    'LogHistoryHook',
    'SwitchToDeployHook',
]

"""Hooks for MMEngine's runner."""

from mmlk.engine.hooks.accelerate import AccelerateHook
from mmlk.engine.hooks.dynamic_sparsity import DynamicSparsityHook
from mmlk.engine.hooks.erf import ERFHook
from mmlk.engine.hooks.switch_to_deploy import SwitchToDeployHook

__all__ = ['AccelerateHook', 'DynamicSparsityHook', 'ERFHook', 'SwitchToDeployHook']

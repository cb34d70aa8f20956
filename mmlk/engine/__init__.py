"""Optimizer construction and hooks for MMEngine; importing this package registers them."""

from mmlk.engine.hooks import AccelerateHook, DynamicSparsityHook, ERFHook, SwitchToDeployHook
from mmlk.engine.optimizers import LayerDecayOptimWrapperConstructor

__all__ = [
    'AccelerateHook',
    'DynamicSparsityHook',
    'ERFHook',
    'LayerDecayOptimWrapperConstructor',
    'SwitchToDeployHook',
]

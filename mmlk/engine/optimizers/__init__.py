"""Optimizer construction."""

from mmlk.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor']

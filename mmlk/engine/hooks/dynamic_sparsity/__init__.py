"""Sparse training from a config: the hook, its settings, the scores of SNIP, averaged weights, and what is logged."""

from mmlk.engine.hooks.dynamic_sparsity.hook import CHECKPOINT_KEY, DynamicSparsityHook

__all__ = ['CHECKPOINT_KEY', 'DynamicSparsityHook']

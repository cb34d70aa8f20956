"""Training stops at a loss that is not finite: the hook, the layer where it began, and the words for it."""

from mmlk.engine.hooks.finite_loss.hook import NOT_FINITE_STATUS, FiniteLossHook

__all__ = ['NOT_FINITE_STATUS', 'FiniteLossHook']

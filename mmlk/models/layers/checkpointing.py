"""Activation checkpointing that leaves a BatchNorm as it would be without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``; in training only ``x`` is stored, and the activations are computed again in the backward pass.

    Output, gradients and running statistics are those of ``module(x)``: plain checkpointing would let every BatchNorm
    see the batch twice and move its statistics twice as fast.
    """
    if not (module.training and torch.is_grad_enabled()):
        return module(x)
    if torch.compiler.is_compiling():
        # The compiler takes no context_fn, and needs none: it writes statistics in the forward graph only.
        return checkpoint(module, x, use_reentrant=False)
    return checkpoint(
        module, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _running_statistics_kept(module))
    )


@contextmanager
def _running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Normalise by the batch, as in training, but do not count it again: copies of the statistics take the update."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)

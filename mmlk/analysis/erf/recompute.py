"""Compute blocks twice instead of storing what is inside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from mmlk.analysis.erf.features import find_stages

#: Called with the forward of a block and its arguments, instead of it.
Around = Callable[..., object]


def find_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network: what its stages, or it itself, keep in lists, as long as these hold no single layers."""
    blocks: list[nn.Module] = []
    for root in find_stages(network) or [network]:
        _collect(root, blocks)
    return blocks


def _collect(module: nn.Module, blocks: list[nn.Module]) -> None:
    children = list(module.children())
    if isinstance(module, (nn.ModuleList, nn.Sequential)) and all(any(child.children()) for child in children):
        blocks.extend(children)
        return
    for child in children:
        _collect(child, blocks)


@contextmanager
def around_blocks(network: nn.Module, around: Around) -> Iterator[None]:
    """Meanwhile every block runs as ``around(forward, *arguments)``."""
    blocks = [block for block in find_blocks(network) if 'forward' not in vars(block)]
    for block in blocks:
        block.forward = partial(around, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def recomputed(network: nn.Module):
    """Context in which blocks store only their inputs; for evaluation mode, in which no random numbers are drawn."""
    return around_blocks(network, partial(checkpoint, use_reentrant=False, preserve_rng_state=False))

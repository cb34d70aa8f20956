"""How much a weight matters; larger is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def magnitude(weight: Tensor) -> Tensor:
    """Score |w|, by which active weights are pruned."""
    return weight.detach().abs()


def saliency(weight: Tensor, grad: Tensor) -> Tensor:
    """Score |w * dL/dw| (SNIP, arXiv 1810.02340, Eq. 6), in float32 or wider."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    return (weight.detach().to(wide) * grad.detach().to(wide)).abs()


def gradient_magnitude(grad: Tensor) -> Tensor:
    """Score |dL/dw|, by which RigL (arXiv 1911.11134) grows weights."""
    return grad.detach().abs()


def snip_scores(parameters: Mapping[str, Tensor], loss_closure: Callable[[], Tensor]) -> dict[str, Tensor]:
    """Saliency of every parameter for one batch.

    One backward pass through :func:`torch.autograd.grad`, so the ``.grad`` of the parameters stay as they were. The
    forward pass is the closure's: statistics of norms and random states it changes are its own matter.

    Args:
        parameters: Names and parameters to score.
        loss_closure: Computes a scalar loss from them.

    Returns:
        A score tensor of each parameter's shape; zeros where the loss does not depend on it.
    """
    names, tensors = list(parameters), list(parameters.values())
    with torch.enable_grad():
        grads = torch.autograd.grad(loss_closure(), tensors, allow_unused=True)
    return {
        name: saliency(tensor, torch.zeros_like(tensor) if grad is None else grad)
        for name, tensor, grad in zip(names, tensors, grads, strict=True)
    }

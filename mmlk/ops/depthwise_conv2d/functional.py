"""The user's function, its autograd rule and the explanation of its dispatch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmlk.ops.checks import check_depthwise_conv2d
from mmlk.ops.depthwise_conv2d import reference
from mmlk.ops.dispatch import PASSES, Choice, Dispatcher

dispatcher = Dispatcher('depthwise_conv2d')
for _pass in PASSES:
    dispatcher.register('reference', _pass, getattr(reference, _pass), reference.why_not)


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str | None = None) -> Tensor:
    """Correlate every channel with its own large kernel, stride 1, output the size of the input.

    Equation: y[n,c,p,q] = b[c] + sum_{r,s} w[c,0,r,s] * x[n,c,p+r-R//2,q+s-S//2], zeros outside the map.

    Args:
        x: Feature map (N, C, H, W), any strides, float16/bfloat16/float32/float64. N may be 0.
        weight: Kernels (C, 1, R, S), R and S odd and independent, same dtype and device as ``x``; may be larger than
            the map.
        bias: Offsets (C,).
        backend: Force one backend for all three passes; ``None`` takes, per pass, the first that can run.

    Returns:
        Tensor (N, C, H, W), dtype of ``x``. Under autocast, inputs and output have the autocast dtype.

    Raises:
        TypeError: An argument is no floating-point tensor, or dtypes differ outside autocast.
        ValueError: R or S is even, shapes or devices do not fit, or ``backend`` is unknown.
        RuntimeError: ``backend`` was forced and cannot run; the message says why.

    Example:
        >>> depthwise_conv2d(torch.ones(1, 2, 5, 5), torch.ones(2, 1, 3, 3))[0, 0, 2, 2].item()
        9.0
    """
    x, weight, bias = _cast_for_autocast(x, weight, bias)
    check_depthwise_conv2d(x, weight, bias)
    choices = {name: dispatcher.select(name, x, weight, backend) for name in PASSES}
    if all(choice.backend.name == 'reference' for choice in choices.values()):
        # PyTorch's own convolution brings autograd of any order, torch.compile and export with it.
        return reference.forward(x, weight, bias)
    return DepthwiseConv2dFunction.apply(x, weight, bias, choices)


def explain(x: Tensor, weight: Tensor, *, backend: str | None = None) -> dict[str, Choice]:
    """Say which backend each pass of ``depthwise_conv2d(x, weight)`` takes, and why others were not taken.

    Args:
        x: Feature map (N, C, H, W).
        weight: Kernels (C, 1, R, S).
        backend: The backend that would be forced.

    Returns:
        For each of 'forward', 'grad_input' and 'grad_weight' a choice with ``backend.name`` and ``rejected``.

    Example:
        >>> explain(torch.ones(1, 2, 5, 5), torch.ones(2, 1, 3, 3))['forward'].backend.name
        'reference'
    """
    x, weight, _ = _cast_for_autocast(x, weight, None)
    check_depthwise_conv2d(x, weight, None)
    return {name: dispatcher.select(name, x, weight, backend) for name in PASSES}


class DepthwiseConv2dFunction(torch.autograd.Function):
    """Autograd rule that runs each pass on the backend chosen for it."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, choices: dict[str, Choice]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.choices = choices
        return choices['forward'].backend.run(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grads: list[Tensor | None] = [None, None, None]
        for index, name in enumerate(('grad_input', 'grad_weight')):
            if ctx.needs_input_grad[index]:
                grads[index] = ctx.choices[name].backend.run(grad_output, x, weight)
        if ctx.needs_input_grad[2]:
            grads[2] = grad_output.sum((0, 2, 3))
        return (*grads, None)


def _cast_for_autocast(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast to the autocast dtype where autocast is on, so that every backend sees one dtype."""
    if not isinstance(x, Tensor) or x.dtype == torch.float64:
        return x, weight, bias
    device = x.device.type
    # By name: is_autocast_enabled refuses "meta", and torch.compile cannot trace torch.amp.is_autocast_available.
    if device not in ('cpu', 'cuda') or not torch.is_autocast_enabled(device):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)

"""The op in PyTorch's operator library: what torch.compile and torch.export see, and its autograd rule.

Four opaque operators, ``mmlk::depthwise_conv2d`` and, for the gradients, ``..._grad_input``, ``..._grad_weight`` and
``..._backward`` (both at once). Each chooses its backend when it runs, from the tensors it gets.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from mmlk.ops.depthwise_conv2d.backends import dispatcher
from mmlk.ops.memory_format import empty_output

_SECOND_ORDER = (
    "depthwise_conv2d has no second derivative on its fast backends; call it with backend='reference' where a gradient "
    'is differentiated again'
)


def autocast_off(x: Tensor):
    """Context in which autocast leaves the backends' own calls alone; they get one dtype and keep it."""
    device = x.device.type
    if device in ('cpu', 'cuda') and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


@torch.library.custom_op(
    'mmlk::depthwise_conv2d',
    mutates_args=(),
    schema='(Tensor x, Tensor weight, Tensor? bias, str? backend) -> Tensor',
)
def forward(x, weight, bias, backend):
    with autocast_off(x):
        return dispatcher.run('forward', x, weight, backend, x, weight, bias)


@torch.library.custom_op(
    'mmlk::depthwise_conv2d_grad_input',
    mutates_args=(),
    schema='(Tensor grad_output, Tensor weight, str? backend) -> Tensor',
)
def grad_input(grad_output, weight, backend):
    # The gradient has the shape, dtype and device of the input; the input itself is not needed, and not kept.
    with autocast_off(grad_output):
        return dispatcher.run('grad_input', grad_output, weight, backend, grad_output, grad_output, weight)


@torch.library.custom_op(
    'mmlk::depthwise_conv2d_grad_weight',
    mutates_args=(),
    schema='(Tensor grad_output, Tensor x, Tensor weight, str? backend) -> Tensor',
)
def grad_weight(grad_output, x, weight, backend):
    with autocast_off(x):
        return dispatcher.run('grad_weight', x, weight, backend, grad_output, x, weight)


@torch.library.custom_op(
    'mmlk::depthwise_conv2d_backward',
    mutates_args=(),
    schema='(Tensor grad_output, Tensor x, Tensor weight, str? backend) -> (Tensor, Tensor)',
)
def backward(grad_output, x, weight, backend):
    with autocast_off(x):
        return dispatcher.run_backward(grad_output, x, weight, backend)


@forward.register_fake
def _(x, weight, bias, backend):
    return empty_output(x)


@grad_input.register_fake
def _(grad_output, weight, backend):
    return empty_output(grad_output)


@grad_weight.register_fake
def _(grad_output, x, weight, backend):
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


@backward.register_fake
def _(grad_output, x, weight, backend):
    return empty_output(x), torch.empty_like(weight, memory_format=torch.contiguous_format)


def _save(ctx, inputs, output) -> None:
    x, weight, _, backend = inputs
    needs_input, needs_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(x if needs_weight else None, weight)
    ctx.backend = backend


def _differentiate(ctx, grad_output):
    x, weight = ctx.saved_tensors
    needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    grad_x = grad_w = grad_b = None
    if needs_input and needs_weight:
        grad_x, grad_w = backward(grad_output, x, weight, ctx.backend)
    elif needs_input:
        grad_x = grad_input(grad_output, weight, ctx.backend)
    elif needs_weight:
        grad_w = grad_weight(grad_output, x, weight, ctx.backend)
    if needs_bias:
        grad_b = grad_output.sum((0, 2, 3))
    return grad_x, grad_w, grad_b, None


def _refuse(ctx, *grads):
    raise RuntimeError(_SECOND_ORDER)


forward.register_autograd(_differentiate, setup_context=_save)
for _operator in (grad_input, grad_weight, backward):
    _operator.register_autograd(_refuse)

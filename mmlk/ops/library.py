"""An op in PyTorch's operator library: what torch.compile and torch.export see, and its autograd rule.

Four opaque operators per op, ``mmlk::<name>`` and, for the gradients, ``..._grad_input``, ``..._grad_weight`` and
``..._backward`` (both at once). Each chooses its backend when it runs, from the tensors it gets.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from mmlk.ops.dispatch import Dispatcher
from mmlk.ops.memory_format import as_output, empty_output


class Operators:
    """The operators of one op.

    Args:
        dispatcher: The op's backends.
        settings: Schema of further arguments, which change the result and go to every backend, such as
            ``', int[] sharing_grid'``.

    Attributes:
        forward: ``(x, weight, bias, backend, *settings) -> y``, differentiable once.
        grad_input: ``(grad_output, weight, backend, *settings)``.
        grad_weight: ``(grad_output, x, weight, backend, *settings)``.
        backward: ``(grad_output, x, weight, backend, *settings)``, both gradients.
    """

    def __init__(self, dispatcher: Dispatcher, settings: str = '') -> None:
        self.dispatcher = dispatcher
        define = self._define
        one, both = 'Tensor', '(Tensor, Tensor)'
        self.forward = define('', f'Tensor x, Tensor weight, Tensor? bias, str? backend{settings}', one, self._forward)
        self.grad_input = define(
            '_grad_input', f'Tensor grad_output, Tensor weight, str? backend{settings}', one, self._grad_input
        )
        arguments = f'Tensor grad_output, Tensor x, Tensor weight, str? backend{settings}'
        self.grad_weight = define('_grad_weight', arguments, one, self._grad_weight)
        self.backward = define('_backward', arguments, both, self._backward)

        self.forward.register_fake(lambda x, weight, *rest: empty_output(x))
        self.grad_input.register_fake(lambda grad_output, *rest: empty_output(grad_output))
        self.grad_weight.register_fake(lambda grad_output, x, weight, *rest: _empty_kernel(weight))
        self.backward.register_fake(lambda grad_output, x, weight, *rest: (empty_output(x), _empty_kernel(weight)))

        self.forward.register_autograd(self._differentiate, setup_context=_save)
        for operator in (self.grad_input, self.grad_weight, self.backward):
            operator.register_autograd(self._refuse)

    def _define(self, suffix, arguments, returns, run):
        name = f'mmlk::{self.dispatcher.op}{suffix}'
        # Compilers may not hand over other strides than the fake kernel saw: the output's depend on them.
        tags = (torch.Tag.needs_exact_strides,)
        return torch.library.custom_op(name, run, mutates_args=(), schema=f'({arguments}) -> {returns}', tags=tags)

    def _forward(self, x, weight, bias, backend, *settings):
        with autocast_off(x):
            y = self.dispatcher.run('forward', (x, weight, bias), x, weight, backend, settings)
        return as_output(y, x)

    def _grad_input(self, grad_output, weight, backend, *settings):
        # The gradient has the shape, dtype and device of the input; the input itself is not needed, and not kept.
        with autocast_off(grad_output):
            arguments = grad_output, grad_output, weight
            grad = self.dispatcher.run('grad_input', arguments, grad_output, weight, backend, settings)
        return as_output(grad, grad_output)

    def _grad_weight(self, grad_output, x, weight, backend, *settings):
        with autocast_off(x):
            return self.dispatcher.run('grad_weight', (grad_output, x, weight), x, weight, backend, settings)

    def _backward(self, grad_output, x, weight, backend, *settings):
        with autocast_off(x):
            grad_x, grad_w = self.dispatcher.run_backward(grad_output, x, weight, backend, settings)
        return as_output(grad_x, x), grad_w

    def _differentiate(self, ctx, grad_output):
        x, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_x = grad_w = grad_b = None
        if needs_input and needs_weight:
            grad_x, grad_w = self.backward(grad_output, x, weight, *ctx.rest)
        elif needs_input:
            grad_x = self.grad_input(grad_output, weight, *ctx.rest)
        elif needs_weight:
            grad_w = self.grad_weight(grad_output, x, weight, *ctx.rest)
        if needs_bias:
            grad_b = grad_output.sum((0, 2, 3))
        return grad_x, grad_w, grad_b, *(None for _ in ctx.rest)

    def _refuse(self, ctx, *grads):
        raise RuntimeError(
            f"{self.dispatcher.op} has no second derivative on its fast backends; call it with backend='reference' "
            'where a gradient is differentiated again'
        )


def autocast_off(x: Tensor):
    """Context in which autocast leaves the backends' own calls alone; they get one dtype and keep it."""
    device = x.device.type
    if device in ('cpu', 'cuda') and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def cast_for_autocast(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast to the autocast dtype where autocast is on, so that every backend sees one dtype."""
    if not isinstance(x, Tensor) or x.dtype == torch.float64:
        return x, weight, bias
    device = x.device.type
    # By name: is_autocast_enabled refuses "meta", and torch.compile cannot trace torch.amp.is_autocast_available.
    if device not in ('cpu', 'cuda') or not torch.is_autocast_enabled(device):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _save(ctx, inputs, output) -> None:
    x, weight, _, *rest = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
    ctx.rest = rest


def _empty_kernel(weight: Tensor) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)

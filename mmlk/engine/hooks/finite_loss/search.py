"""Where a value that is not finite first appears in a forward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmlk.engine.hooks.finite_loss.watch import Call, is_finite, loss_terms, tensors
from mmlk.engine.kept_buffers import kept_buffers
from mmlk.engine.random_state import kept_random_state


@dataclass
class Origin:
    """What running a batch again has shown.

    Attributes:
        parameters: Names of the parameters that are not finite.
        inputs: Whether a tensor that the model was given is not finite.
        layer: Name of the first module whose outputs are not finite although its inputs are; ``''`` is the model
            itself, whose layers all gave finite values; ``None``: there is none.
        kind: Class of that module.
        value: ``'NaN'`` or ``'infinite'``: what is in the outputs of that module, or in the inputs of the model.
        samples: Positions in the batch of the samples with such values, where not all of them have any.
        failure: Why the batch could not be run to its end.
        repeated: Whether the loss of the second run was not finite either.
    """

    parameters: list[str]
    inputs: bool = False
    layer: str | None = None
    kind: str = ''
    value: str = ''
    samples: tuple[int, ...] = ()
    failure: str = ''
    repeated: bool = False


@torch.no_grad()
def find_origin(model: nn.Module, bare: nn.Module, call: Call, num_samples: int) -> Origin:
    """Run a forward pass again, with the random numbers and the precision that it had, and watch every module.

    Buffers, such as the statistics of norms, and random states are afterwards what they were. Where there are several
    processes, all of them have to call this, because the modules may exchange values.

    Args:
        model: The model or its wrapper.
        bare: The model without wrapper.
        call: The forward pass.
        num_samples: Length of the batch.
    """
    origin = Origin([name for name, parameter in bare.named_parameters() if not is_finite(parameter)])
    given = [call.args, {name: value for name, value in call.kwargs.items() if name != 'mode'}]
    if not is_finite(given):
        origin.inputs = True
        origin.value, origin.samples = _describe(given, num_samples)
    with kept_random_state(), kept_buffers(bare), _watched(bare, origin, num_samples), _eager(), call.precision():
        call.random.restore()
        try:
            origin.repeated = not is_finite(loss_terms(model(*call.args, **call.kwargs)))
        # Whatever a model does with values that are not finite, such as an index made of NaN.
        except Exception as error:
            origin.failure = f'{type(error).__name__}: {error}'
    return origin


@contextmanager
def _watched(bare: nn.Module, origin: Origin, num_samples: int) -> Iterator[None]:
    """Have the first module with finite inputs and other outputs entered into ``origin``."""
    # A stack, because a module may be used inside itself; before the call, because layers may work in place.
    inputs: defaultdict[nn.Module, list[bool]] = defaultdict(list)

    def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        inputs[module].append(origin.layer is None and is_finite([args, kwargs]))

    def after(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if inputs[module].pop() and origin.layer is None and not is_finite(output):
            origin.layer, origin.kind = names[module], type(module).__name__
            origin.value, origin.samples = _describe(output, num_samples)

    names = {module: name for name, module in bare.named_modules()}
    handles = []
    for module in names:
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _describe(value: Any, num_samples: int) -> tuple[str, tuple[int, ...]]:
    """What is wrong with nested tensors, and with which samples of the batch where that can be told."""
    bad = [tensor for tensor in tensors(value) if tensor.is_floating_point() and not is_finite(tensor)]
    kind = 'NaN' if any(bool(tensor.isnan().any()) for tensor in bad) else 'infinite'
    if not all(tensor.dim() > 1 and len(tensor) == num_samples for tensor in bad):
        return kind, ()
    found = {index for tensor in bad for index in _bad_samples(tensor)}
    return kind, tuple(sorted(found)) if len(found) < num_samples else ()


def _bad_samples(tensor: Tensor) -> list[int]:
    return (~torch.isfinite(tensor)).flatten(1).any(1).nonzero().flatten().tolist()


def _eager():
    """Compiled code does not call the hooks of modules; torch 2.6 and later can be told to leave it aside."""
    set_stance = getattr(torch.compiler, 'set_stance', None)
    return nullcontext() if set_stance is None else set_stance('force_eager')

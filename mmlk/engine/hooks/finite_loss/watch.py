"""What is kept of a forward pass: whether its loss is finite, and what it takes to run it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mmlk.engine.random_state import RandomState


@dataclass(frozen=True)
class Call:
    """The inputs of a forward pass and the state that it began with.

    Attributes:
        args: What the model was called with, after its data preprocessor.
        kwargs: The same by name.
        random: Random numbers.
        device_type: Of the model.
        autocast: Data type of mixed precision; ``None`` without.
    """

    args: tuple
    kwargs: dict[str, Any]
    random: RandomState
    device_type: str
    autocast: torch.dtype | None

    @classmethod
    def now(cls, args: tuple, kwargs: dict[str, Any], device: torch.device) -> Call:
        """A call that is about to be made."""
        kind = device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return cls(args, kwargs, RandomState.now(), kind, autocast)

    def precision(self) -> AbstractContextManager:
        """Mixed precision, or none, as it was."""
        return torch.autocast(self.device_type, dtype=self.autocast, enabled=self.autocast is not None)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def is_finite(value: Any) -> bool:
    """Whether no floating-point number in nested tensors is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors(value) if tensor.is_floating_point())


def loss_terms(outputs: Any) -> dict[str, list[Tensor]]:
    """The entries of a model's outputs that MMEngine adds up to the loss: those with ``loss`` in their name."""
    if not isinstance(outputs, Mapping):
        return {}
    found = {name: list(tensors(value)) for name, value in outputs.items() if 'loss' in str(name)}
    return {name: values for name, values in found.items() if values}


class LossWatch:
    """Whether the loss of one forward pass is finite, on any process; asking waits for nothing that runs after it.

    Args:
        terms: As :func:`loss_terms` finds them; at least one.
        call: The forward pass.
        shared: Whether every process calls this at the same point of its iteration, so that all learn of it.
    """

    @torch.no_grad()
    def __init__(self, terms: Mapping[str, list[Tensor]], call: Call | None, shared: bool) -> None:
        self.terms = {name: [value.detach() for value in values] for name, values in terms.items()}
        self.call = call
        # The sum that MMEngine makes: it can overflow where its terms do not.
        total = sum(value.mean() for values in self.terms.values() for value in values)
        self._own = ~torch.isfinite(total)
        flag = self._own.to(torch.float32)
        self._work = self._event = self._answer = None
        if shared:
            self._work = dist.all_reduce(flag, op=dist.ReduceOp.MAX, async_op=True)
        if flag.is_cuda:
            # A copy that the device makes when it gets there: reading the flag itself would wait for the backward
            # pass, which is queued by then.
            if self._work is not None:
                self._work.wait()
                self._work = None
            kept = torch.empty_like(flag, device='cpu', pin_memory=True)
            kept.copy_(flag, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
            flag = kept
        self._flag = flag

    @property
    def failed(self) -> bool:
        """Whether the loss is not finite on some process."""
        if self._answer is None:
            if self._work is not None:
                self._work.wait()
            if self._event is not None:
                self._event.synchronize()
            self._answer = bool(self._flag)
        return self._answer

    @property
    def failed_here(self) -> bool:
        """Whether it is not finite on this process."""
        return bool(self._own)

"""Which backend runs which pass of an op, and why.

An op owns one :class:`Dispatcher`. A backend registers a function per pass together with a predicate that answers
``None`` (it can run this call) or one sentence saying why not. The same sentence is shown by ``explain`` and raised
when the user forced that backend. A second predicate tells where it can but had better not, because another backend is
as fast; it is not asked when the backend is forced. Passes are chosen one by one, because the fastest algorithm differs
between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmlk.ops.memory_format import output_format

PASSES = ('forward', 'grad_input', 'grad_weight')

#: Choices remembered at most; training on images of many sizes would collect them without end.
MAX_CHOICES = 10_000

#: Takes ``x``, ``weight`` and the op's settings.
Predicate = Callable[..., 'str | None']


@dataclass(frozen=True)
class Backend:
    """One implementation of one pass.

    Attributes:
        name: Name the user types, such as ``'reference'``.
        run: The implementation; its signature is the pass's, stated by the op.
        why_not: Predicate on ``(x, weight)``: ``None`` or the reason it cannot run.
        why_rather_not: Predicate on ``(x, weight)``: ``None`` or the reason to prefer another backend.
        describe: What it will do with ``(x, weight)``, for ``explain``.
        forced_only: Taken only where the user names it.
    """

    name: str
    run: Callable[..., Any]
    why_not: Predicate
    why_rather_not: Predicate | None = None
    describe: Callable[..., str] | None = None
    forced_only: bool = False


@dataclass(frozen=True)
class Choice:
    """The backend chosen for one pass.

    Attributes:
        backend: The implementation to call.
        rejected: Reason per backend that was asked before and not taken, in order of preference.
        detail: What the backend will do, such as the algorithm and its predicted time; may be empty.
    """

    backend: Backend
    rejected: dict[str, str] = field(default_factory=dict)
    detail: str = ''


class Dispatcher:
    """Backends of one op in order of preference, kept per pass.

    Args:
        op: Name of the op, for messages.
    """

    def __init__(self, op: str) -> None:
        self.op = op
        self._backends: dict[str, list[Backend]] = {name: [] for name in PASSES}
        self._joint: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {}
        self._records: list[list[tuple[str, str]]] = []
        #: Answers of :meth:`select`. Predicates may look at shapes, dtypes, devices, the memory format of the output
        #: and the number of threads, nothing else, so a choice holds for every call with the same ones.
        self._choices: dict[tuple, Choice] = {}

    def register(
        self,
        name: str,
        pass_name: str,
        run: Callable[..., Tensor],
        why_not: Predicate,
        *,
        why_rather_not: Predicate | None = None,
        describe: Callable[..., str] | None = None,
        forced_only: bool = False,
    ) -> None:
        """Add a backend for one pass, preferred to those registered before it; see :class:`Backend`.

        Raises:
            ValueError: ``pass_name`` is no pass, or the backend has this pass already.
        """
        if pass_name not in PASSES:
            raise ValueError(f'pass_name must be one of {PASSES}, got {pass_name!r}')
        if name in self.names(pass_name):
            raise ValueError(f'backend {name!r} of {self.op} already has a {pass_name} pass')
        backend = Backend(name, run, why_not, why_rather_not, describe, forced_only)
        self._backends[pass_name].insert(0, backend)
        self._choices.clear()

    def register_joint(self, name: str, run: Callable[..., tuple[Tensor, Tensor]]) -> None:
        """Add a function giving both gradients at once, used where backend ``name`` is chosen for both."""
        self._joint[name] = run

    def unregister(self, name: str) -> None:
        """Remove a backend from every pass."""
        self._joint.pop(name, None)
        self._choices.clear()
        for pass_name, backends in self._backends.items():
            self._backends[pass_name] = [backend for backend in backends if backend.name != name]

    def names(self, pass_name: str = 'forward') -> list[str]:
        """Names of the backends that have ``pass_name``, most preferred first."""
        return [backend.name for backend in self._backends[pass_name]]

    def select(
        self, pass_name: str, x: Tensor, weight: Tensor, forced: str | None = None, settings: tuple = ()
    ) -> Choice:
        """Choose the backend of one pass.

        Args:
            pass_name: One of :data:`PASSES`.
            x: Input (N, C, H, W).
            weight: Kernels (C, 1, R, S).
            forced: Name of the only backend to consider; ``None`` takes the first that can run and has no reason not
                to. A forced backend never falls back to another one.
            settings: Further arguments of the op that its predicates take, hashable.

        Raises:
            ValueError: ``forced`` is not a known backend.
            RuntimeError: The forced backend cannot run; the message says why.
        """
        call = x.shape, x.dtype, x.device, output_format(x), weight.shape, settings
        key = (pass_name, forced, call, torch.get_num_threads())
        choice = self._choices.get(key)
        if choice is None:
            if len(self._choices) >= MAX_CHOICES:
                self._choices.clear()
            choice = self._choices[key] = self._select(pass_name, (x, weight, *settings), forced)
        return choice

    def _select(self, pass_name: str, call: tuple, forced: str | None) -> Choice:
        rejected: dict[str, str] = {}
        for backend in self._backends[pass_name]:
            if backend.forced_only if forced is None else backend.name != forced:
                continue
            reason = backend.why_not(*call)
            if reason is None and forced is None and backend.why_rather_not is not None:
                reason = backend.why_rather_not(*call)
            if reason is None:
                return Choice(backend, rejected)
            rejected[backend.name] = reason
        if forced is not None and not rejected:
            raise ValueError(f'backend must be one of {self.names(pass_name)} for {self.op}, got {forced!r}')
        reasons = '; '.join(f'{name}: {reason}' for name, reason in rejected.items())
        raise RuntimeError(f'{self.op} cannot run its {pass_name} pass: {reasons}')

    def explain(self, x: Tensor, weight: Tensor, forced: str | None = None, settings: tuple = ()) -> dict[str, Choice]:
        """The choice of every pass, with what the backend will do."""
        choices = {}
        for name in PASSES:
            choice = self.select(name, x, weight, forced, settings)
            describe = choice.backend.describe
            detail = '' if describe is None else describe(x, weight, *settings)
            choices[name] = Choice(choice.backend, choice.rejected, detail)
        return choices

    def run(
        self, pass_name: str, arguments: tuple, x: Tensor, weight: Tensor, forced: str | None, settings: tuple = ()
    ) -> Tensor:
        """Run one pass with ``arguments`` and ``settings`` on the backend chosen for ``(x, weight)``."""
        settings = _hashable(settings)
        backend = self.select(pass_name, x, weight, forced, settings).backend
        self._record(pass_name, backend.name)
        return backend.run(*arguments, *settings)

    def run_backward(
        self, grad_output: Tensor, x: Tensor, weight: Tensor, forced: str | None, settings: tuple = ()
    ) -> tuple[Tensor, Tensor]:
        """Both gradients, at once where one backend is chosen for both and can."""
        settings = _hashable(settings)
        arguments = grad_output, x, weight
        names = [self.select(name, x, weight, forced, settings).backend.name for name in PASSES[1:]]
        joint = self._joint.get(names[0]) if names[0] == names[1] else None
        if joint is None:
            return tuple(self.run(name, arguments, x, weight, forced, settings) for name in PASSES[1:])
        for pass_name in PASSES[1:]:
            self._record(pass_name, names[0])
        return joint(*arguments, *settings)

    @contextmanager
    def record(self) -> Iterator[list[tuple[str, str]]]:
        """Collect ``(pass, backend)`` of everything that runs inside, for tests and for the curious."""
        calls: list[tuple[str, str]] = []
        self._records.append(calls)
        try:
            yield calls
        finally:
            self._records.remove(calls)

    def _record(self, pass_name: str, name: str) -> None:
        for calls in self._records:
            calls.append((pass_name, name))


def _hashable(settings: tuple) -> tuple:
    # Lists of integers of an operator's schema arrive as lists.
    return tuple(tuple(value) if isinstance(value, list) else value for value in settings)

"""Which backend runs which pass of an op, and why.

An op owns one :class:`Dispatcher`. A backend registers a function per pass together with a predicate that answers
``None`` (it can run this call) or one sentence saying why not. The same sentence is shown by ``explain`` and raised
when the user forced that backend. Passes are chosen one by one, because the fastest algorithm differs between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

PASSES = ('forward', 'grad_input', 'grad_weight')

Predicate = Callable[[Tensor, Tensor], 'str | None']


@dataclass(frozen=True)
class Backend:
    """One implementation of one pass.

    Attributes:
        name: Name the user types, such as ``'reference'``.
        run: The implementation; its signature is the pass's, stated by the op.
        why_not: Predicate on ``(x, weight)``: ``None`` or the reason it cannot run.
    """

    name: str
    run: Callable[..., Tensor]
    why_not: Predicate


@dataclass(frozen=True)
class Choice:
    """The backend chosen for one pass.

    Attributes:
        backend: The implementation to call.
        rejected: Reason per backend that was asked before and could not run, in order of preference.
    """

    backend: Backend
    rejected: dict[str, str] = field(default_factory=dict)


class Dispatcher:
    """Backends of one op in order of preference, kept per pass.

    Args:
        op: Name of the op, for messages.
    """

    def __init__(self, op: str) -> None:
        self.op = op
        self._backends: dict[str, list[Backend]] = {name: [] for name in PASSES}

    def register(self, name: str, pass_name: str, run: Callable[..., Tensor], why_not: Predicate) -> None:
        """Add a backend for one pass, preferred to those registered before it.

        Raises:
            ValueError: ``pass_name`` is no pass, or the backend has this pass already.
        """
        if pass_name not in PASSES:
            raise ValueError(f'pass_name must be one of {PASSES}, got {pass_name!r}')
        if name in self.names(pass_name):
            raise ValueError(f'backend {name!r} of {self.op} already has a {pass_name} pass')
        self._backends[pass_name].insert(0, Backend(name, run, why_not))

    def unregister(self, name: str) -> None:
        """Remove a backend from every pass."""
        for pass_name, backends in self._backends.items():
            self._backends[pass_name] = [backend for backend in backends if backend.name != name]

    def names(self, pass_name: str = 'forward') -> list[str]:
        """Names of the backends that have ``pass_name``, most preferred first."""
        return [backend.name for backend in self._backends[pass_name]]

    def select(self, pass_name: str, x: Tensor, weight: Tensor, forced: str | None = None) -> Choice:
        """Choose the backend of one pass.

        Args:
            pass_name: One of :data:`PASSES`.
            x: Input (N, C, H, W).
            weight: Kernels (C, 1, R, S).
            forced: Name of the only backend to consider; ``None`` takes the first that can run. A forced backend never
                falls back to another one.

        Raises:
            ValueError: ``forced`` is not a known backend.
            RuntimeError: The forced backend cannot run; the message says why.
        """
        rejected: dict[str, str] = {}
        for backend in self._backends[pass_name]:
            if forced is not None and backend.name != forced:
                continue
            reason = backend.why_not(x, weight)
            if reason is None:
                return Choice(backend, rejected)
            rejected[backend.name] = reason
        if forced is not None and not rejected:
            raise ValueError(f'backend must be one of {self.names(pass_name)} for {self.op}, got {forced!r}')
        reasons = '; '.join(f'{name}: {reason}' for name, reason in rejected.items())
        raise RuntimeError(f'{self.op} cannot run its {pass_name} pass: {reasons}')

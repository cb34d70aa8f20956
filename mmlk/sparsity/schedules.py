"""When masks change, and by how much."""

from __future__ import annotations

import math


class CosinePruneRate:
    """Share of the active weights that an update exchanges, falling along half a cosine.

    Equation: rho(t) = f + (p - f) / 2 * (1 + cos(pi t / T)), rho(T) afterwards (arXiv 2207.03620; SLaK's code has
    f = 0.005).

    Args:
        initial: Rate p at step 0, a fraction.
        total_steps: Optimizer steps T of the whole training.
        final: Rate f at the end; no more than ``initial``.

    Raises:
        ValueError: A rate is outside [0, 1], or ``total_steps`` is not positive.

    Example:
        >>> rate = CosinePruneRate(0.5, total_steps=100)
        >>> rate(0), round(rate(50), 4), rate(100), rate(1000)
        (0.5, 0.2525, 0.005, 0.005)
    """

    def __init__(self, initial: float, total_steps: int, final: float = 0.005) -> None:
        _check_rate('initial', initial)
        _check_rate('final', final)
        if total_steps < 1:
            raise ValueError(f'total_steps must be at least 1, got {total_steps}')
        self.initial = initial
        self.final = min(final, initial)
        self.total_steps = total_steps

    def __call__(self, step: int) -> float:
        """The rate after ``step`` optimizer steps."""
        progress = min(step, self.total_steps) / self.total_steps
        return self.final + (self.initial - self.final) / 2 * (1 + math.cos(math.pi * progress))


class ConstantPruneRate:
    """The same share of the active weights at every update.

    Args:
        rate: A fraction.

    Raises:
        ValueError: It is outside [0, 1].
    """

    def __init__(self, rate: float) -> None:
        _check_rate('rate', rate)
        self.rate = rate

    def __call__(self, step: int) -> float:
        """The rate after ``step`` optimizer steps."""
        return self.rate


class UpdateSchedule:
    """Which optimizer steps are followed by an update of the masks.

    Args:
        interval: Optimizer steps from update to update; ``None`` for masks that never change.
        until: Last step that may be followed by one; ``None`` for no end.

    Raises:
        ValueError: ``interval`` is not positive.

    Example:
        >>> schedule = UpdateSchedule(interval=2, until=5)
        >>> [step for step in range(1, 9) if schedule.due(step)]
        [2, 4]
    """

    def __init__(self, interval: int | None, until: int | None = None) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f'interval must be at least 1 optimizer step, or None for fixed masks, got {interval}')
        self.interval = interval
        self.until = until

    def due(self, step: int) -> bool:
        """Whether an update follows optimizer step ``step``; the first step is 1."""
        if self.interval is None or (self.until is not None and step > self.until):
            return False
        return step > 0 and step % self.interval == 0


def _check_rate(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f'{name} must be a fraction in [0, 1], got {value}')

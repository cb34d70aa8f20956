"""What was found out about an environment, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mmlk.compat.families import Family
from mmlk.diagnosis.machine import Machine
from mmlk.diagnosis.probes import Step


@dataclass(frozen=True)
class Facts:
    """All that was found out."""

    python: tuple[int, int]
    versions: dict[str, str]
    family: Family
    machine: Machine
    steps: dict[str, Step]

    def works(self, name: str) -> bool:
        """Whether a step came to its end."""
        step = self.steps.get(name)
        return step is not None and step.ok


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes:
        problem: Whether something fails because of it; otherwise it is a note.
        what: A sentence.
        cure: What to do; may be empty for a note.
    """

    problem: bool
    what: str
    cure: str = ''


Rule = Callable[[Facts], Iterator[Finding]]

"""Names of weights in the authors' files and in ours, as tables.

A rule is a pair of templates, one of the authors' key and one of ours, with the same fields: ``{s}`` is a number,
``{rest*}`` for anything. Because both sides hold the same fields, every rule can be read in both directions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

_FIELD = re.compile(r'\{(\w+)(\*?)\}')


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
        theirs: Template of the authors' key, such as ``'stages.{s}.{b}.large_kernel.LoRA1.conv.weight'``.
        ours: Template of our key with the same fields.

    Raises:
        ValueError: The two templates do not hold the same fields.
    """

    theirs: str
    ours: str

    def __post_init__(self) -> None:
        fields = [sorted(name for name, _ in _FIELD.findall(template)) for template in (self.theirs, self.ours)]
        if fields[0] != fields[1]:
            raise ValueError(f'both sides of a rule must hold the same fields, got {self.theirs!r} and {self.ours!r}')

    @cached_property
    def patterns(self) -> tuple[re.Pattern, re.Pattern]:
        """Regular expressions of both templates."""
        return _pattern(self.theirs), _pattern(self.ours)

    def to_ours(self, key: str) -> str | None:
        """Our name of an authors' key, ``None`` where the rule is not about it."""
        return _translate(key, self.patterns[0], self.ours)

    def to_theirs(self, key: str) -> str | None:
        """The authors' name of our key, ``None`` where the rule is not about it."""
        return _translate(key, self.patterns[1], self.theirs)


@dataclass(frozen=True)
class KeyMap:
    """The table of one authors' repository. Ours are a bare backbone's names; a classifier's head is ``head.fc``.

    Attributes:
        family: Name of the table, as ``--family`` takes it.
        rules: Rules, the first that matches counts.
        dropped: Regular expressions of the authors' keys without a counterpart here, with the reason.
    """

    family: str
    rules: tuple[Rule, ...]
    dropped: dict[str, str] = field(default_factory=dict)

    def to_ours(self, key: str) -> str | None:
        """Our name of an authors' key, ``None`` if the table does not explain it."""
        return next((name for rule in self.rules if (name := rule.to_ours(key)) is not None), None)

    def to_theirs(self, key: str) -> str | None:
        """The authors' name of our key, ``None`` if the table does not explain it."""
        return next((name for rule in self.rules if (name := rule.to_theirs(key)) is not None), None)

    def drop_reason(self, key: str) -> str | None:
        """Why an authors' key is left out, ``None`` if it is not to be."""
        return next((reason for pattern, reason in self.dropped.items() if re.fullmatch(pattern, key)), None)


def _pattern(template: str) -> re.Pattern:
    parts, end = [], 0
    for match in _FIELD.finditer(template):
        parts.append(re.escape(template[end : match.start()]))
        parts.append(f'(?P<{match[1]}>{".+" if match[2] else "[0-9]+"})')
        end = match.end()
    return re.compile(''.join(parts) + re.escape(template[end:]))


def _translate(key: str, pattern: re.Pattern, template: str) -> str | None:
    match = pattern.fullmatch(key)
    return None if match is None else _FIELD.sub(lambda name: match[name[1]], template)

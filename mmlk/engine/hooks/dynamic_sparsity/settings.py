"""Arguments of the hook for sparse training: what each mode takes, what it takes by default, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mmlk.errors import UsageError

HOOK = 'mmlk.DynamicSparsityHook'

_CHOICES = {
    'init': ('snip', 'erk', 'uniform'),
    'growth': ('random', 'gradient'),
    'unit': ('element', 'kernel'),
}

#: Arguments that depend on the mode, with their defaults; ``None``: has to be given, or is found out later.
MODES: dict[str, dict[str, Any]] = {
    'dynamic': dict(
        sparsity=None,
        init='snip',
        interval=2000,
        prune_rate=0.5,
        growth='random',
        share_interval=None,
        exact=True,
        seed=None,
    ),
    'fixed': dict(sparsity=None, init='snip', share_interval=None, exact=True, seed=None),
    'static': dict(),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


#: Whether a value is one, and what it has to be.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    'sparsity': (lambda v: _is_number(v) and 0 <= v < 1, 'a share of the weights in [0, 1)'),
    'interval': (lambda v: _is_count(v, 1), 'a whole number of optimizer steps, 1 or more'),
    'prune_rate': (lambda v: _is_number(v) and 0 < v <= 1, 'a share of the active weights in (0, 1]'),
    'share_interval': (lambda v: _is_count(v, 0), 'a whole number of updates, 0 for masks that are never common'),
    'exact': (lambda v: isinstance(v, bool), 'True or False'),
    'seed': (lambda v: _is_count(v, 0), 'a whole number, 0 or more'),
    **{name: (lambda v, c=c: v in c, f'one of {", ".join(map(repr, c))}') for name, c in _CHOICES.items()},
}


def check_settings(mode: str, scope: str, unit: str, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a mode, complete.

    Args:
        mode: ``'dynamic'``, ``'fixed'`` or ``'static'``.
        scope: Which weights.
        unit: What a mask switches.
        given: The arguments that depend on the mode; ``None`` where one was left out.

    Returns:
        Name -> value, for every argument the mode has.

    Raises:
        UsageError: One of them is not what it has to be, is missing, or has no meaning in this mode.
    """
    if mode not in MODES:
        raise UsageError(f'mode of {HOOK} must be one of {", ".join(map(repr, MODES))}, got {mode!r}')
    if not isinstance(scope, str) or not scope:
        raise UsageError(
            f"scope of {HOOK} must be 'all', 'large_kernels' or a regular expression for names, got {scope!r}"
        )
    try:
        re.compile(scope)
    except re.error as error:
        raise UsageError(
            f"scope of {HOOK} must be 'all', 'large_kernels' or a regular expression, got {scope!r}: {error}"
        ) from error
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in {'unit': unit, **given}.items():
        holds, expected = _RULES[name]
        if not holds(value):
            raise UsageError(f'{name} of {HOOK} must be {expected}, got {value!r}')
        if name != 'unit' and name not in MODES[mode]:
            others = ' and '.join(repr(other) for other in MODES if name in MODES[other])
            raise UsageError(f'{name} of {HOOK} has no meaning in mode {mode!r}, only in {others}; leave it out')
    if 'sparsity' in MODES[mode] and 'sparsity' not in given:
        raise UsageError(f'{HOOK} needs sparsity in mode {mode!r}, a share of the weights in [0, 1), got none')
    return MODES[mode] | given

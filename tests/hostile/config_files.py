"""Nested configs as the campaigns handle them: written as Python, walked through, changed in one place."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

Path = tuple[Any, ...]


def literal(value: Any) -> str:
    """A value as Python reads it; ``repr`` writes ``nan`` and ``inf``, which are no names."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, dict):
        return '{' + ', '.join(f'{literal(key)}: {literal(one)}' for key, one in value.items()) + '}'
    if isinstance(value, list):
        return '[' + ', '.join(map(literal, value)) + ']'
    if isinstance(value, tuple):
        return '(' + ''.join(f'{literal(one)}, ' for one in value) + ')'
    return repr(value)


def as_python(config: dict) -> str:
    """A config file."""
    return ''.join(f'{key} = {literal(value)}\n' for key, value in config.items())


def dotted(path: Path) -> str:
    return '.'.join(map(str, path))


def entries(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every entry of the dictionaries and lists of a config, with its path."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield (*path, key), value
        yield from entries(value, (*path, key))


def at(config: dict, path: Path) -> Any:
    node: Any = config
    for key in path:
        node = node[key]
    return node


def changed(config: dict, path: Path, value: Any) -> dict:
    """A copy with another value in one place; lists stand for tuples on the way there."""
    return _replaced(config, path, value)


def without(config: dict, path: Path) -> dict:
    """A copy without an entry."""
    parent = copy.copy(at(config, path[:-1]))
    if isinstance(parent, tuple):
        parent = list(parent)
    del parent[path[-1]]
    return _replaced(config, path[:-1], parent) if path[:-1] else parent


def renamed(config: dict, path: Path, name: str) -> dict:
    """A copy with another key for an entry, which keeps its place."""
    parent = at(config, path[:-1])
    other = {name if key == path[-1] else key: value for key, value in parent.items()}
    return _replaced(config, path[:-1], other) if path[:-1] else other


def misspelt(name: str, rng: random.Random) -> str:
    """A name with one slip of the finger: two letters swapped, one left out or doubled."""
    place = rng.randrange(max(1, len(name) - 1))
    slips = [
        name[:place] + name[place + 1 : place + 2] + name[place] + name[place + 2 :],
        name[:place] + name[place + 1 :],
        name[: place + 1] + name[place:],
    ]
    candidates = [slip for slip in slips if slip and slip != name]
    return rng.choice(candidates) if candidates else name + 'x'


def _replaced(node: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(node, dict):
        return {**node, head: _replaced(node[head], rest, value) if rest else value}
    items = list(node)
    items[head] = _replaced(items[head], rest, value)
    return tuple(items) if isinstance(node, tuple) else items

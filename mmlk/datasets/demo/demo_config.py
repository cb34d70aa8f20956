"""Turn a config into one that trains in minutes on generated data, and say what was changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmlk.datasets.demo.recipe import (
    DEFAULT_ITERATIONS,
    DEFAULT_ROOT,
    ROOT_VARIABLE,
    DemoSettings,
    read_iterations,
    shorten_recipe,
)
from mmlk.errors import UsageError

# One module per host with `check(cfg)` and `adapt(cfg, settings)`, both on the plain dictionary of the config, and
# optionally `SIZES`, settings that differ from the defaults. Modules are imported when asked for: each needs its host's
# formats only.
_ADAPTERS = {
    'mmpretrain': 'mmlk.datasets.demo.classification',
    'mmseg': 'mmlk.datasets.demo.segmentation',
    'mmdet': 'mmlk.datasets.demo.detection',
}


class _Missing:
    """Stands where a key did not exist before, or does not any more."""

    def __repr__(self) -> str:
        return '(absent)'


MISSING = _Missing()


@dataclass(frozen=True)
class Change:
    """One difference between two configs.

    Attributes:
        keys: Where, as keys of dictionaries and positions in lists.
        old: Value before, or ``MISSING``.
        new: Value after, or ``MISSING``.
    """

    keys: tuple[str | int, ...]
    old: Any
    new: Any

    @property
    def path(self) -> str:
        """The place as ``--cfg-options`` writes it, such as ``train_dataloader.dataset.data_root``."""
        return '.'.join(str(key) for key in self.keys)


def apply_demo(cfg: Config, *, iterations: int | None = None, data_root: str | Path | None = None) -> list[Change]:
    """Swap generated data and a short recipe into a config, in place.

    Depth, width, kernel, head and loss stay as they are. The config is untouched where an error is raised.

    Args:
        cfg: Config of any supported host.
        iterations: Optimiser steps; None takes the environment's ``MMLK_DEMO_ITERS``, else what suits the host.
        data_root: Folder for generated data; None takes the environment's ``MMLK_DEMO_ROOT``, else ``data/demo``.

    Returns:
        Every change, in the order of the config.

    Raises:
        UsageError: The host or its data set has no demo, the iterations are not a positive integer, or the data cannot
            be written.
    """
    scope = cfg.get('default_scope')
    if scope not in _ADAPTERS:
        known = ', '.join(map(repr, _ADAPTERS))
        raise UsageError(f'The demo supports configs with default_scope {known}, got {scope!r}; choose one of those.')
    adapter = import_module(_ADAPTERS[scope])
    sizes = dict(getattr(adapter, 'SIZES', {}))
    settings = DemoSettings(
        root=Path(data_root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT),
        iterations=read_iterations(iterations, sizes.pop('iterations', DEFAULT_ITERATIONS)),
        cuda=torch.cuda.is_available(),
    )
    settings = replace(settings, **sizes)
    # Two copies that share nothing: in the config itself one dictionary may stand in several places.
    before, after = cfg.to_dict(), cfg.to_dict()
    adapter.check(after)
    shorten_recipe(after, settings)
    adapter.adapt(after, settings)
    changes = list(_differences((), before, after))
    for key in dict.fromkeys(change.keys[0] for change in changes):
        cfg[key] = after[key]
    return changes


def format_changes(changes: Iterable[Change]) -> str:
    """Write changes as a diff, one ``- key: old`` and ``+ key: new`` per change."""
    lines = []
    for change in changes:
        if change.old is not MISSING:
            lines.append(f'- {change.path}: {change.old!r}')
        if change.new is not MISSING:
            lines.append(f'+ {change.path}: {change.new!r}')
    return '\n'.join(lines)


def _differences(keys: tuple[str | int, ...], old: Any, new: Any) -> Iterator[Change]:
    """Compare two nested values, as deep as they have the same shape."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences((*keys, key), old.get(key, MISSING), new.get(key, MISSING))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and _is_nested(old):
        for index, (first, second) in enumerate(zip(old, new)):
            yield from _differences((*keys, index), first, second)
    elif old is not new and (type(old) is not type(new) or old != new):
        yield Change(keys, old, new)


def _is_nested(values: list) -> bool:
    """Tell a list of settings from a plain value such as a size."""
    return any(isinstance(value, (dict, list)) for value in values)

"""Opt-in measurement of tile sizes: ``MMLK_TRITON_AUTOTUNE=1`` times the best predicted ones and keeps the winner.

Results are kept on disk, per GPU and version of the kernels, in ``mmlk_tiles.json`` in Triton's cache folder
(``TRITON_CACHE_DIR``, by default ``~/.triton/cache``). Two runs of one call may take different tiles before and after
tuning, so their results may differ in the last bits; without the variable they never do.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

#: Raise with any change of the kernels or of the fields of the tiles.
VERSION = 1
CANDIDATES = 10
REPEATS = 10

Tiles = TypeVar('Tiles', bound=NamedTuple)

_chosen: dict[str, list[int]] | None = None


def choose(
    pass_name: str, shape: NamedTuple, candidates: Sequence[Tiles], launch: Callable[[Tiles], None], x: Tensor
) -> Tiles:
    """The tiles to run with: the best predicted ones, or where tuning is on the fastest of the first ten.

    Args:
        pass_name: Name of the pass, part of the key.
        shape: What the tiles depend on, part of the key.
        candidates: Tiles, the best predicted ones first.
        launch: Runs the pass with given tiles. May be called many times.
        x: Tensor whose device is tuned for.
    """
    if os.environ.get('MMLK_TRITON_AUTOTUNE') != '1' or not x.is_cuda:
        return candidates[0]
    key = '/'.join([str(VERSION), torch.cuda.get_device_name(x.device), pass_name, *map(str, shape)])
    chosen = _load()
    if key not in chosen:
        if torch.cuda.is_current_stream_capturing():
            return candidates[0]
        chosen[key] = list(min(candidates[:CANDIDATES], key=lambda tiles: _time(launch, tiles)))
        _save(chosen)
    best = tuple(chosen[key])
    # A file written by hand or by another version names no tiles of ours: those kernels were never checked.
    return next((tiles for tiles in candidates if tuple(tiles) == best), candidates[0])


def cache_file() -> Path:
    """Where tuning results are kept."""
    folder = os.environ.get('TRITON_CACHE_DIR')
    return (Path(folder) if folder else Path.home() / '.triton' / 'cache') / 'mmlk_tiles.json'


def _time(launch: Callable[[Tiles], None], tiles: Tiles) -> float:
    """Median time in milliseconds; infinite for tiles that this GPU has not the memory for."""
    from triton.runtime.errors import OutOfResources

    try:
        launch(tiles)
    except OutOfResources:
        return float('inf')
    times = []
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        launch(tiles)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[REPEATS // 2]


def _load() -> dict[str, list[int]]:
    global _chosen
    if _chosen is None:
        try:
            _chosen = json.loads(cache_file().read_text())
        except (OSError, ValueError):
            _chosen = {}
    return _chosen


def _save(chosen: dict[str, list[int]]) -> None:
    path = cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, 'w') as file:
            json.dump(chosen, file, indent=1, sort_keys=True)
        # Several processes may tune at once: each replaces the whole file, none reads half of one.
        os.replace(temporary, path)
    except OSError:
        pass  # a read-only home: this process keeps what it measured

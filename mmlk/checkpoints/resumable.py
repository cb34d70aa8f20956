"""Which checkpoint a run can go on from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mmlk.compat.checkpoint_loader import CheckpointError, load_checkpoint_file

#: Names that MMEngine's hooks give: of a count of iterations or epochs.
_NUMBERED = re.compile(r'^(iter|epoch)_(\d+)\.pth$')
#: What resuming reads, and what each of them has to be.
_ENTRIES = dict(state_dict=dict, message_hub=dict, optimizer=dict, param_schedulers=(list, dict))
_OPTIONAL = ('param_schedulers',)


def load_resumable(path: str | os.PathLike) -> dict[str, Any]:
    """Load a checkpoint to the CPU and check that a run can be resumed from it.

    Raises:
        CheckpointError: It cannot be read, or lacks what a run needs besides weights.
    """
    checkpoint = load_checkpoint_file(path, map_location='cpu')
    advice = 'resume from a checkpoint of a training run, or start a new run with load_from'
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{path} holds {type(checkpoint).__name__}, expected a dict with weights: {advice}')
    for name, kind in _ENTRIES.items():
        if name not in checkpoint and name in _OPTIONAL:
            continue
        if not isinstance(checkpoint.get(name), kind):
            found = f'holds {type(checkpoint[name]).__name__} as' if name in checkpoint else 'lacks'
            raise CheckpointError(f'{path} {found} the entry {name!r} that resuming needs: {advice}')
    meta = checkpoint.get('meta')
    counts = [meta.get(name) for name in ('epoch', 'iter')] if isinstance(meta, dict) else []
    if not counts or any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in counts):
        raise CheckpointError(
            f'{path} does not say at which epoch and iteration it was written (meta.epoch, meta.iter): {advice}'
        )
    return checkpoint


def find_newest_resumable(work_dir: str | os.PathLike) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of a work directory from which a run can be resumed.

    Args:
        work_dir: Work directory; checkpoints may also be where its ``last_checkpoint`` points.

    Returns:
        Its path, ``None`` if there is none; and why newer ones were refused, the newest first.
    """
    refused = []
    for path in _newest_first(Path(work_dir)):
        try:
            load_resumable(path)
        except CheckpointError as error:
            refused.append(str(error))
        else:
            return path, refused
    return None, refused


def _newest_first(work_dir: Path) -> list[Path]:
    folders = [work_dir]
    pointer = work_dir / 'last_checkpoint'
    if pointer.is_file():
        folder = Path(pointer.read_text(errors='replace').strip()).parent
        if folder.is_dir() and not folder.samefile(work_dir):
            folders.append(folder)
    found = [
        (match, path) for folder in folders for path in folder.glob('*.pth') if (match := _NUMBERED.match(path.name))
    ]
    if len({match[1] for match, _ in found}) == 1:
        # By number where that says it, since copying a folder changes times.
        found.sort(key=lambda item: int(item[0][2]), reverse=True)
    else:
        found.sort(key=lambda item: item[1].stat().st_mtime_ns, reverse=True)
    return [path for _, path in found]

"""The words for a loss that is not finite."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlk.engine.hooks.finite_loss.search import Origin
from mmlk.engine.hooks.finite_loss.watch import Call, is_finite, tensors

#: Names that a sentence lists; the log has all.
LISTED = 8
SMALLER_STEPS = (
    'lower the learning rate (optim_wrapper.optimizer.lr), lengthen the warm-up or clip gradients '
    "(optim_wrapper.clip_grad={'max_norm':1.0})"
)


def sample_names(batch: Any) -> list[str]:
    """What identifies the samples of a batch: the paths of their pictures, or else an index or a position."""
    if isinstance(batch, Mapping):
        samples, inputs = batch.get('data_samples'), batch.get('inputs')
    elif isinstance(batch, (list, tuple)) and len(batch) > 1:
        inputs, samples = batch[:2]
    else:
        samples = inputs = None
    named = [_name_of(sample, position) for position, sample in enumerate(_flat(samples))]
    if named:
        return named
    first = next(iter(inputs.values()), ()) if isinstance(inputs, Mapping) else inputs
    length = len(first) if isinstance(first, (list, tuple)) or (isinstance(first, Tensor) and first.dim()) else 0
    return [f'sample {position} of the batch' for position in range(length)]


def _flat(samples: Any) -> list[Any]:
    """Samples in the lists and dictionaries that models of several branches have."""
    if isinstance(samples, Mapping):
        samples = list(samples.values())
    if isinstance(samples, (list, tuple)):
        return [one for sample in samples for one in _flat(sample)]
    return [] if samples is None or isinstance(samples, Tensor) else [samples]


def _name_of(sample: Any, position: int) -> str:
    metainfo = getattr(sample, 'metainfo', {})
    for key in ('img_path', 'img_id', 'sample_idx'):
        if metainfo.get(key) is not None:
            return str(metainfo[key]) if key == 'img_path' else f'{key} {metainfo[key]}'
    return f'sample {position} of the batch'


def listed(names: Sequence[str], limit: int = LISTED) -> str:
    """Names in a sentence."""
    more = len(names) - limit
    return ', '.join(names[:limit]) + (f' and {more} more' if more > 0 else '')


def listed_files(names: Sequence[str]) -> str:
    """Names of samples in a sentence; the folder of files that lie together is said once, at the end."""
    if len(names) < 2 or not all(os.sep in name for name in names):
        return listed(names)
    try:
        folder = os.path.commonpath(names)
    except ValueError:
        # Some have a root and some have none.
        folder = ''
    if not folder or folder == os.sep:
        return listed(names)
    return f'{listed([os.path.relpath(name, folder) for name in names])} in {folder}'


def describe_terms(terms: Mapping[str, list[Tensor]]) -> str:
    """Which terms of the loss are not finite, such as ``decode.loss_ce is NaN``."""
    found = []
    for name, values in terms.items():
        if not is_finite(values):
            kind = 'NaN' if any(bool(value.isnan().any()) for value in tensors(values)) else 'infinite'
            found.append(f'{name} is {kind}')
    return ', '.join(found) or 'the sum of its terms is too large'


def describe_origin(origin: Origin, call: Call, names: Sequence[str], step: str) -> tuple[str, str]:
    """Where the first value came from, and what to do about it, for a sentence.

    Args:
        origin: What running the batch again has shown.
        call: The forward pass.
        names: Of the samples.
        step: What is known of the optimizer step before, such as ``'the optimizer step of iteration 6 (a.jpg)'``.
    """
    alone = listed_files([names[index] for index in origin.samples])
    value = f'{origin.value} for {alone} alone' if alone else origin.value
    half = call.autocast is torch.float16
    if origin.inputs:
        where = f'the model was given pictures that are not finite already ({value})'
        cure = 'correct or remove these files, or mend the pipeline that reads them'
    elif origin.parameters:
        count = len(origin.parameters)
        where = f'after {step} {count} parameters are not finite, the first of them {origin.parameters[0]}'
        if origin.layer is not None:
            where += f'; the first that they spoil is {_layer(origin)}'
        cure = SMALLER_STEPS
    elif origin.layer is None:
        where = 'the same batch gave a finite loss when it was run again, so the layer is not known'
        if origin.failure or origin.repeated:
            why = f'running the batch again failed ({origin.failure})' if origin.failure else 'no single layer made it'
            where = f'the layer is not known, because {why}'
            return where, f'to go on, {SMALLER_STEPS}'
        return where, 'if it happens again, have the device checked'
    elif not origin.layer or origin.kind.endswith('Loss'):
        where = f'it first appeared in {_layer(origin)}, computed from finite predictions ({value})'
        cure = f'check the labels of these files (all ignored, empty or out of range?), or {SMALLER_STEPS}'
    else:
        where = f'it first appeared in {_layer(origin)}, whose inputs are finite ({value})'
        cure = SMALLER_STEPS
        if half:
            cure = "float16 ends at 65504: train in bfloat16 (optim_wrapper.dtype='bfloat16') or float32, or " + cure
    return where, f'to go on, {cure}'


def _layer(origin: Origin) -> str:
    if not origin.layer:
        return f'the loss of the model itself ({origin.kind}), after its layers'
    return f'layer {origin.layer} ({origin.kind})'


class LastCheckpoint:
    """The last checkpoint that a run wrote or resumed from, as the file ``last_checkpoint`` of its folder says.

    Args:
        work_dir: Folder of the run. What an earlier run left there, from which this one did not resume, does not count.
        resumed: Whether this run has resumed.
        load_from: From where, if not from the folder itself.
    """

    def __init__(self, work_dir: str, resumed: bool, load_from: str | None) -> None:
        self._pointer = Path(work_dir, 'last_checkpoint')
        self._before = self._stamp()
        self._resumed = (load_from or self._read()) if resumed else None

    def _stamp(self) -> int | None:
        try:
            return self._pointer.stat().st_mtime_ns
        except OSError:
            return None

    def _read(self) -> str | None:
        try:
            return self._pointer.read_text().strip() or None
        except OSError:
            return None

    @property
    def path(self) -> str | None:
        """Where it is; ``None`` if there is none."""
        path = self._resumed if self._stamp() == self._before else self._read()
        return path if path and ('://' in path or os.path.exists(path)) else None

    def describe(self) -> str:
        """For a sentence."""
        return f'the last good checkpoint is {self.path}' if self.path else 'there is no checkpoint of this run yet'

    @property
    def again(self) -> str:
        """How to go on, for the end of a sentence."""
        return 'and continue from the checkpoint (--resume)' if self.path else 'and start again'

"""Conversion of the authors' checkpoints to MMEngine's, and back.

Nothing is left to a non-strict load: every tensor of the file is matched, kept or dropped for a stated reason, and the
result has exactly the keys and shapes of one variant of the network. Otherwise the conversion is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlk.checkpoints.families import FAMILIES, Candidate, Family, Shape
from mmlk.checkpoints.fit import WRAPPERS, some
from mmlk.checkpoints.key_map import KeyMap
from mmlk.errors import UsageError
from mmlk.files import written_whole
from mmlk.version import __version__

#: Prefixes of what a downstream model has besides its backbone; the names are those of mmseg and mmdet, old and new.
HEADS = ('decode_head.', 'auxiliary_head.', 'neck.', 'rpn_head.', 'roi_head.', 'bbox_head.')

#: What the hosts' old hooks add to a state dict, with the reason to leave it out.
_HOOK_KEYS = {'ema_': "copies made by the EMA hook of mmcv 1.x beside the model's own weights"}


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint and what became of every tensor of the source.

    Attributes:
        family: Name of the table.
        network: Arguments that build the backbone.
        weights: The converted state dict.
        matched: Key in the source -> key in the result, of the network.
        kept: Keys of downstream heads, unchanged.
        dropped: Key in the source -> why it was left out.
        missing: Key of the network -> why the source may do without it.
        wrapper: Key under which the weights are saved, ``None`` for a bare state dict.
    """

    family: str
    network: dict[str, Any]
    weights: dict[str, Tensor]
    matched: dict[str, str]
    kept: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    wrapper: str | None = 'state_dict'

    def checkpoint(self, source: str) -> dict[str, Any]:
        """What is to be saved: with ``meta`` for MMEngine, or as the authors keep it."""
        if self.wrapper is None:
            return dict(self.weights)
        checkpoint: dict[str, Any] = {self.wrapper: dict(self.weights)}
        if self.wrapper == 'state_dict':
            meta = {'mmlk_version': __version__, 'family': self.family, 'backbone': self.network, 'source': source}
            checkpoint['meta'] = meta
        return checkpoint


def convert(
    checkpoint: Mapping, family: str, arch: str | None = None, ema: bool = False, source: str = 'the checkpoint'
) -> Conversion:
    """Convert an authors' checkpoint, as read from its file.

    Args:
        checkpoint: The mapping in the file: weights, plain or wrapped, of a classifier or a downstream model.
        family: One of :data:`FAMILIES`.
        arch: The variant it has to be; ``None`` accepts any.
        ema: Take the averaged weights under ``model_ema``.
        source: Name of the file, for messages.

    Returns:
        The conversion; its weights have the keys ``backbone.*``, ``head.fc.*`` and those of downstream heads.

    Raises:
        UsageError: A key is not explained, the network is of another family or variant, or these are no weights.
    """
    table = _family(family, arch)
    weights = _clean_prefixes(_unwrap(checkpoint, ema, source), source)
    names, dropped, unexplained = _translate(weights, table)
    shapes = {ours: tuple(weights[key].shape) for key, ours in names.items()}
    if unexplained or not names:
        _refuse_unexplained(weights, table, unexplained, source)
    candidate = _identify(table, shapes, arch, weights, source)
    matched = {key: _with_prefix(ours) for key, ours in names.items()}
    kept = tuple(key for key in weights if key.startswith(HEADS))
    converted = {matched.get(key, key): _own(value) for key, value in weights.items() if key not in dropped}
    return Conversion(
        family, candidate.config, converted, matched, kept, dropped, _why_missing(candidate.missing(shapes))
    )


def revert(checkpoint: Mapping, family: str, arch: str | None = None, source: str = 'the checkpoint') -> Conversion:
    """Convert a checkpoint of ours to the authors' names, wrapped as theirs: the inverse of :func:`convert`.

    Args:
        checkpoint: The mapping in the file.
        family: One of :data:`FAMILIES`.
        arch: The variant it has to be; ``None`` accepts any.
        source: Name of the file, for messages.

    Raises:
        UsageError: A key has no counterpart, the network is of another family or variant, or these are no weights.
    """
    table = _family(family, arch)
    weights = _clean_prefixes(_unwrap(checkpoint, False, source), source)
    theirs_already, _, others = _translate(weights, table)
    if theirs_already and not others:
        raise UsageError(f'{source} has the names of family {family} already: leave out --reverse to convert it')
    kept = tuple(key for key in weights if key.startswith(HEADS))
    names = {key: key.removeprefix('backbone.') for key in weights if key not in kept}
    candidate = _identify(
        table, {name: tuple(weights[key].shape) for key, name in names.items()}, arch, weights, source
    )
    theirs, unexplained = min(
        (_translate_back(names, key_map) for key_map in table.key_maps), key=lambda result: len(result[1])
    )
    if unexplained:
        raise UsageError(
            f'{source} has {len(unexplained)} keys without a counterpart in the files of family {family} '
            f'({some(unexplained)}): nothing was written'
        )
    # mmseg, mmdet and mmpretrain keep the backbone beside its heads.
    prefixed = bool(kept) or table.wrapper == 'state_dict'
    matched = {key: _with_prefix(name) if prefixed else name for key, name in theirs.items()}
    converted = {matched.get(key, key): _own(value) for key, value in weights.items()}
    missing = _why_missing(candidate.missing(dict.fromkeys(names.values(), ())))
    wrapper = 'state_dict' if kept else table.wrapper
    return Conversion(family, candidate.config, converted, matched, kept, {}, missing, wrapper)


def write_checkpoint(checkpoint: Mapping, path: str | os.PathLike) -> None:
    """Save a checkpoint; the file appears only when it is complete.

    Raises:
        UsageError: The file cannot be written there.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise UsageError(f'{path} is a directory: give the name of the file to write')
    if path.parent.is_file():
        raise UsageError(f'{path.parent} is a file: give a folder to write {path.name} in')
    try:
        with written_whole(path) as partial, partial.open('wb') as file:
            torch.save(checkpoint, file)
    except OSError as error:
        raise UsageError(f'{path} could not be written ({error.strerror}): give a place that can be') from error


def _family(name: str, arch: str | None) -> Family:
    if name not in FAMILIES:
        raise UsageError(f'family must be one of {sorted(FAMILIES)}, got {name!r}')
    family = FAMILIES[name]
    if arch is not None and arch not in family.archs:
        raise UsageError(f'arch of family {name} must be one of {sorted(family.archs)}, got {arch!r}')
    return family


def _unwrap(checkpoint: Any, ema: bool, source: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, from under every wrapper that training frameworks put around them."""
    if ema:
        keys = list(checkpoint) if isinstance(checkpoint, Mapping) else []
        if 'model_ema' not in keys:
            raise UsageError(
                f"--ema takes the weights under 'model_ema', {source} has {some([repr(key) for key in keys], 8)}: "
                'leave out --ema to take its only weights'
            )
        checkpoint = checkpoint['model_ema']
    while isinstance(checkpoint, Mapping):
        wrapper = next((key for key in WRAPPERS if isinstance(checkpoint.get(key), Mapping)), None)
        if wrapper is None:
            break
        checkpoint = checkpoint[wrapper]
    if not isinstance(checkpoint, Mapping):
        raise UsageError(
            f'{source} holds a {type(checkpoint).__name__}, expected a checkpoint: a mapping from names to tensors, '
            f'plain or under one of {WRAPPERS}'
        )
    weights = {str(key): value for key, value in checkpoint.items() if isinstance(value, Tensor)}
    if not weights:
        raise UsageError(
            f'{source} holds no tensors, only {some([repr(key) for key in checkpoint], 8)}: expected a checkpoint, '
            f'plain or under one of {WRAPPERS}'
        )
    others = [str(key) for key in checkpoint if key not in weights]
    if others:
        raise UsageError(
            f'{source} has {len(others)} entries among its weights that are no tensors ({some(others)}): save it again '
            'with the weights alone'
        )
    return weights


def _clean_prefixes(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Names without what data-parallel wrappers put in front of them."""
    cleaned: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = key
        while name.startswith('module.'):
            name = name.removeprefix('module.')
        if name in cleaned:
            raise UsageError(f"{source} holds {name} twice, with and without 'module.' in front")
        cleaned[name] = value
    return cleaned


def _translate_back(names: Mapping[str, str], key_map: KeyMap) -> tuple[dict[str, str], list[str]]:
    """The authors' names by key, and the keys without one."""
    theirs = {key: key_map.to_theirs(name) for key, name in names.items()}
    return theirs, [key for key, name in theirs.items() if name is None]


def _translate(weights: Mapping[str, Tensor], family: Family) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Our names (without prefix) by source key; reasons of what is dropped; what is neither."""
    return min((_translate_by(weights, key_map) for key_map in family.key_maps), key=lambda result: len(result[2]))


def _translate_by(weights: Mapping[str, Tensor], table: KeyMap) -> tuple[dict[str, str], dict[str, str], list[str]]:
    names: dict[str, str] = {}
    dropped: dict[str, str] = {}
    unexplained: list[str] = []
    prefixed = any(key.startswith('backbone.') for key in weights)
    taken: set[str] = set()
    for key in weights:
        if key.startswith(HEADS):
            continue
        # A table of a host's files has the prefix in its rules, a table of an authors' repository does not.
        spellings = (key, key.removeprefix('backbone.'))
        ours = next((name for s in spellings if (name := table.to_ours(s))), None)
        if key.startswith(tuple(_HOOK_KEYS)):
            dropped[key] = next(reason for prefix, reason in _HOOK_KEYS.items() if key.startswith(prefix))
        elif (reason := table.drop_reason(spellings[1])) and key.startswith('backbone.') is prefixed:
            # Beside a backbone, a head is that of another host, and not what the table wants dropped.
            dropped[key] = reason
        elif ours is None or ours in taken:
            unexplained.append(key)
        else:
            names[key] = ours
            taken.add(ours)
    return names, dropped, unexplained


def _identify(
    family: Family, shapes: Mapping[str, Shape], arch: str | None, weights: Mapping[str, Tensor], source: str
) -> Candidate:
    """The variant that a file is."""
    if (fitting := _first_fit(family, shapes, arch)) is not None:
        return fitting
    if (fitting := _first_fit(family, shapes)) is not None:
        found = fitting.config['arch']
        raise UsageError(
            f'{source} is arch {found!r} of family {family.name}, not {arch!r}: give --arch {found} or leave it out'
        )
    _refuse_other_family(weights, family, source)
    nearest = min(family.candidates(shapes), key=lambda candidate: _distance(candidate, shapes))
    raise UsageError(
        f'{source} fits no network of family {family.name}; the nearest is {describe(nearest.config)}, with '
        f'{", ".join(nearest.problems(shapes))}: give a complete checkpoint of such a network'
    )


def _first_fit(family: Family, shapes: Mapping[str, Shape], arch: str | None = None) -> Candidate | None:
    return next((c for c in family.candidates(shapes, arch) if not c.problems(shapes)), None)


def describe(network: Mapping[str, Any]) -> str:
    """The config of a network in one line."""
    return 'dict(' + ', '.join(f'{name}={value!r}' for name, value in network.items()) + ')'


def _distance(candidate: Candidate, shapes: Mapping[str, Shape]) -> int:
    differing = sum(shapes.get(key) != shape for key, shape in candidate.shapes.items())
    return differing + sum(key not in candidate.shapes for key in shapes)


def _refuse_unexplained(weights: Mapping[str, Tensor], family: Family, unexplained: list[str], source: str) -> None:
    _refuse_other_family(weights, family, source)
    raise UsageError(
        f'{source} has {len(unexplained)} keys that family {family.name} does not explain ({some(unexplained)}): give '
        'a checkpoint of one of its networks; nothing was written'
    )


def _refuse_other_family(weights: Mapping[str, Tensor], family: Family, source: str) -> None:
    """Raise with a better hint if the file is another family's, or converted already."""
    for other in FAMILIES.values():
        names, _, unexplained = _translate(weights, other)
        shapes = {ours: tuple(weights[key].shape) for key, ours in names.items()}
        if other is family or unexplained or not names:
            continue
        if (fitting := _first_fit(other, shapes)) is not None:
            raise UsageError(
                f'{source} does not fit family {family.name}, it looks like {other.name} '
                f'({describe(fitting.config)}): give --family {other.name}'
            )
    bare = {
        key.removeprefix('backbone.'): tuple(value.shape) for key, value in weights.items() if not key.startswith(HEADS)
    }
    if _first_fit(family, bare) is not None:
        raise UsageError(f'{source} has the names of mmlk already: load it as it is, or give --reverse')


def _with_prefix(name: str) -> str:
    return name if name.startswith(('head.', 'backbone.')) else f'backbone.{name}'


def _own(value: Tensor) -> Tensor:
    """The tensor with storage of its own; saving a view would save all it is a view of."""
    if value.is_meta:
        # Keys and shapes alone, to see what would come out.
        return value
    value = value.detach().cpu().contiguous()
    whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if whole else value.clone()


def _why_missing(keys: list[str]) -> dict[str, str]:
    return {
        key: 'counters of BatchNorms, which are no weights'
        if key.endswith('num_batches_tracked')
        else "the classifier's norm, which a downstream model does without"
        for key in keys
    }

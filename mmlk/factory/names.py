"""Names of the models. Light: listing them imports neither torch nor MMEngine."""

from __future__ import annotations

import difflib
import fnmatch
import reprlib
from collections.abc import Sequence
from typing import Any

from mmlk.errors import UsageError

_SIZES = ('t', 's', 'b', 'l')

#: What a name begins with -> backbone and its architectures: as the name ends -> as the backbone takes it.
_FAMILIES = {
    'pelk': ('PeLK', {arch: arch for arch in ('t', 's', 'b', 'b_101', 't_101')}),
    'replknet': ('RepLKNet', {arch: arch for arch in ('31b', '31l', 'xl', '31b_k3', '31b_k7', '31b_k13', '31b_k25')}),
    'slak': ('SLaK', {arch: arch for arch in _SIZES}),
    # As the configs have it: v2, the network of the paper at CVPR 2025, needs no mark.
    'shiftwise': ('ShiftWiseNet', {size: f'v2_{size}' for size in _SIZES}),
    'shiftwise_v1': ('ShiftWiseNet', {size: f'v1_{size}' for size in _SIZES}),
    'unireplknet': ('UniRepLKNet', {arch: arch for arch in ('a', 'f', 'p', 'n', 't', 's', 'b', 'l', 'xl')}),
}

#: Name -> type of the backbone and its ``arch``.
MODELS: dict[str, tuple[str, str]] = {
    f'{family}_{name}': (backbone, arch)
    for family, (backbone, archs) in _FAMILIES.items()
    for name, arch in archs.items()
}

#: Prefix of the same names in timm.
TIMM_PREFIX = 'mmlk_'


def list_models(pattern: str | Sequence[str] = '*') -> list[str]:
    """Names that :func:`mmlk.create_model` takes.

    Args:
        pattern: One or several shell patterns, such as ``'*slak*'`` or ``'pelk_?'``.

    Returns:
        The names that match any of them, sorted.

    Example:
        >>> list_models('slak_*')
        ['slak_b', 'slak_l', 'slak_s', 'slak_t']
    """
    patterns = [pattern] if isinstance(pattern, str) else pattern
    if not isinstance(patterns, Sequence) or not all(isinstance(one, str) for one in patterns):
        raise UsageError(f'pattern must be a shell pattern or a sequence of them, got {reprlib.repr(pattern)}')
    return sorted(name for name in MODELS if any(fnmatch.fnmatchcase(name, one.lower()) for one in patterns))


def look_up(name: str) -> tuple[str, str]:
    """Backbone and architecture of a name; timm's prefix may be there.

    Raises:
        UsageError: There is no such model.
    """
    if not isinstance(name, str):
        raise UsageError(f'expected the name of a model, got {reprlib.repr(name)}; mmlk.list_models() lists the names')
    key = name.removeprefix(TIMM_PREFIX)
    if key not in MODELS:
        close = difflib.get_close_matches(key, MODELS, n=3, cutoff=0.5)
        hint = f'did you mean {" or ".join(close)}?' if close else 'mmlk.list_models() lists the names'
        raise UsageError(f'expected the name of a model, got {name!r}; {hint}')
    return MODELS[key]


def picture_settings(name: str) -> dict[str, Any]:
    """Size, crop and normalisation of pictures at the resolution a network was first trained at, as timm words them."""
    if name == 'replknet_xl':
        return dict(_PICTURES, input_size=(3, 320, 320), crop_pct=320 / 365, mean=(0.5,) * 3, std=(0.5,) * 3)
    return dict(_PICTURES)


_PICTURES = dict(
    input_size=(3, 224, 224), interpolation='bicubic', crop_pct=0.875,
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
)  # fmt: skip

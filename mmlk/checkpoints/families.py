"""The networks whose checkpoints can be converted: whose names they use, and which variants there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from mmlk.checkpoints.fit import some
from mmlk.checkpoints.key_map import KeyMap
from mmlk.checkpoints.key_maps import mmpretrain, replknet, shiftwise, slak, unireplknet, unireplknet_merged
from mmlk.registry import MODELS

Shape = tuple[int, ...]

_COUNTER = 'num_batches_tracked'
_OUTPUT_NORM = re.compile(r'norm([0-3])\.(\w+)')


@dataclass(frozen=True)
class Candidate:
    """One variant of a network, to be compared with a file.

    Attributes:
        config: Arguments that build the backbone, such as ``dict(type='mmlk.SLaK', arch='t')``.
        shapes: Keys and shapes of the backbone with the classifier's norm, without norms of the outputs.
        channels: Channels per stage.
    """

    config: dict[str, Any]
    shapes: dict[str, Shape]
    channels: tuple[int, ...]

    def problems(self, found: Mapping[str, Shape]) -> list[str]:
        """What keeps a file with these keys (ours, without prefix) and shapes from fitting; empty if it fits.

        Norms of the outputs may be there or not, and so may the classifier's norm where there is no classifier; the
        counters of BatchNorms are not weights.
        """
        optional = not any(key.startswith(('norm.', 'head.')) for key in found)
        expected = self.shapes | self._optional_shapes(found)
        missing = [
            key
            for key in expected
            if key not in found and not key.endswith(_COUNTER) and not (optional and key.startswith('norm.'))
        ]
        unexpected = [key for key in found if key not in expected]
        other = [
            f'{key} {found[key]} instead of {expected[key]}'
            for key in expected
            if key in found and found[key] != expected[key]
        ]
        return [
            f'{len(keys)} {what} ({some(keys)})'
            for keys, what in ((missing, 'keys missing'), (unexpected, 'keys unexpected'), (other, 'of another shape'))
            if keys
        ]

    def missing(self, found: Mapping[str, Shape]) -> list[str]:
        """Keys of the network that a fitting file does not hold."""
        return [key for key in self.shapes if key not in found]

    def _optional_shapes(self, found: Mapping[str, Shape]) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        classes = found.get('head.fc.weight', ())[:1]
        if any(key.startswith('head.') for key in found):
            shapes |= {'head.fc.weight': (*classes, self.channels[-1]), 'head.fc.bias': classes}
        for key in found:
            if match := _OUTPUT_NORM.fullmatch(key):
                width = (self.channels[int(match[1])],)
                shapes |= {f'norm{match[1]}.weight': width, f'norm{match[1]}.bias': width}
                if match[2] in ('running_mean', 'running_var', _COUNTER):
                    shapes[key] = () if match[2] == _COUNTER else width
        return shapes


@dataclass(frozen=True)
class Family:
    """The checkpoints of one repository.

    Attributes:
        name: As ``--family`` takes it.
        key_maps: Names of the weights; a file is explained by one of them.
        backbone: Type of our network.
        settings: Reads arguments of the backbone, other than the arch, from keys and shapes of a file.
        layouts: Further arguments to try with every arch.
        wrapper: Key under which the authors keep the weights, ``None`` for a bare state dict.
    """

    name: str
    key_maps: tuple[KeyMap, ...]
    backbone: str
    settings: Callable[[Mapping[str, Shape]], dict[str, Any]]
    layouts: tuple[dict[str, Any], ...] = ({},)
    wrapper: str | None = 'model'

    @property
    def archs(self) -> tuple[str, ...]:
        """Names of the architectures."""
        return tuple(MODELS.get(self.backbone).arch_zoo)

    def candidates(self, found: Mapping[str, Shape], arch: str | None = None) -> Iterator[Candidate]:
        """Every variant that a file with these keys and shapes could be, or those of one ``arch``."""
        settings = self.settings(found)
        for layout in self.layouts:
            for name in self.archs if arch is None else (arch,):
                variant = {'type': f'mmlk.{self.backbone}', 'arch': name}
                try:
                    yield _build((*variant.items(), *settings.items(), *layout.items()))
                except ValueError:
                    # Settings read from something else than such a network; it is compared with the plain arch.
                    yield _build(tuple(variant.items()))


@lru_cache(maxsize=64)
def _build(items: tuple[tuple[str, Any], ...]) -> Candidate:
    arguments = {name: dict(value) if name.endswith('_cfg') and value else value for name, value in items}
    with torch.device('meta'):
        net = MODELS.build(arguments | {'final_norm': True})
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    zoo = net.arch_zoo[arguments['arch']]
    config = {name: value for name, value in arguments.items() if name not in zoo or zoo[name] != value}
    return Candidate(config, shapes, net.channels)


def _fused(found: Mapping[str, Shape]) -> dict[str, Any]:
    return {'deploy': True} if any('.reparam_convs.' in key for key in found) else {}


def _slak_settings(found: Mapping[str, Shape]) -> dict[str, Any]:
    """Kernels and form of a SLaK. A square kernel without a small one beside it is ConvNeXt's."""
    kernels = {
        (int(match[1]), match[2]): shape
        for key, shape in found.items()
        if (match := re.fullmatch(r'stages\.(\d)\.blocks\.0\.mixer\.((?:\w+_)?weight|reparam_convs\.0\.weight)', key))
        and len(shape) == 4
    }
    settings: dict[str, Any] = {}
    if any(name == 'reparam_convs.0.weight' for _, name in kernels):
        settings['deploy'] = 'dense'
    elif not any(name == 'vertical_weight' for _, name in kernels):
        settings['decompose'] = False
    if not any('.mixer.' in key and key.endswith('running_mean') for key in found) and 'deploy' not in settings:
        settings['conv_norm_cfg'] = None
    long = [max((shape[2] for (stage, _), shape in kernels.items() if stage == s), default=0) for s in range(4)]
    short = [shape[2] for (_, name), shape in kernels.items() if name == 'small_weight']
    if 'deploy' in settings:
        # The short edge cannot be seen in a merged kernel, and makes no difference to it.
        short = [5]
    if all(long):
        settings['kernel_size'] = (*long, short[0] if short else 100)
    return settings


def _shiftwise_settings(found: Mapping[str, Shape]) -> dict[str, Any]:
    """Merged paths are a network with one."""
    paths = {match[1] for key in found if (match := re.search(r'\.mixer\.paths\.(\d+)', key))}
    return {'num_paths': 1} if len(paths) == 1 else {}


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family('slak', (slak.KEY_MAP,), 'SLaK', _slak_settings, ({}, {'width_factor': 1.0})),
        Family('replknet', (replknet.KEY_MAP,), 'RepLKNet', _fused, wrapper=None),
        Family('shiftwise', shiftwise.KEY_MAPS, 'ShiftWiseNet', _shiftwise_settings),
        Family('unireplknet', (unireplknet.KEY_MAP, unireplknet_merged.KEY_MAP), 'UniRepLKNet', _fused),
        Family('mmpretrain', (mmpretrain.KEY_MAP,), 'RepLKNet', _fused, wrapper='state_dict'),
    )
}

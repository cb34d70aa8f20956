"""Backbones to look into: of a config, with or without a checkpoint, and timm's."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmlk.analysis.erf.images import MEAN, STD
from mmlk.benchmarks.models import quiet_initialisation
from mmlk.checkpoints.fit import OUTPUT_NORM_PREFIXES, require_fit, unwrap_state_dict
from mmlk.cli.config import read_config
from mmlk.cli.run import require_file
from mmlk.errors import UsageError

#: Endings of what belongs to the config before it.
CHECKPOINTS = ('.pth', '.pt', '.ckpt', '.bin')
RANDOM = 'random weights'
#: Type of a model that is fused once it is built.
FUSED = 'mmlk.FusedModel'
#: Suffix of a timm name for the weights timm publishes.
PUBLISHED = 'pretrained'


@dataclass(eq=False)
class Backbone:
    """A network and what it needs to know of an image.

    Attributes:
        name: For titles and file names.
        network: The backbone, in evaluation mode.
        weights: Where its weights come from.
        trained: Whether they come from anywhere.
        mean: Per channel, in the range of uint8.
        std: As ``mean``.
        bgr: Whether blue comes first.
        cfg: Its config, ``None`` for timm's.
    """

    name: str
    network: nn.Module
    weights: str = RANDOM
    trained: bool = False
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    bgr: bool = False
    cfg: Config | None = None


def pair_with_checkpoints(arguments: Sequence[str]) -> list[tuple[str, str | None]]:
    """Configs with the checkpoint behind each, from a command line that lists both.

    Raises:
        UsageError: A checkpoint has no config before it, or a file is not there.
    """
    pairs: list[tuple[str, str | None]] = []
    for argument in arguments:
        if not argument.endswith(CHECKPOINTS):
            pairs.append((argument, None))
        elif not pairs or pairs[-1][1] is not None:
            raise UsageError(f'expected a config before the checkpoint {argument}, found none; give CONFIG {argument}')
        else:
            require_file(argument)
            pairs[-1] = (pairs[-1][0], argument)
    return pairs


def backbone_of_config(path: str, checkpoint: str | None = None, options: dict | None = None) -> Backbone:
    """Build the backbone of a config; without a checkpoint, with random weights, whatever the config would load.

    Args:
        path: Config of a classifier, segmentor or detector.
        checkpoint: Of the whole model, or of the backbone alone.
        options: Entries of the config to set.

    Raises:
        UsageError: There is no such file, the model has no backbone, or the weights do not fit.
    """
    cfg = read_config(path, options)
    model = cfg.get('model') or {}
    if 'backbone' not in model:
        raise UsageError(f'expected a config whose model has a backbone, {path} has none; give one of a network')
    scope = cfg.get('default_scope')
    if scope:
        init_default_scope(scope)
    settings = _without_weights(copy.deepcopy(model.backbone))
    if model.get('type') == FUSED:
        # What tools/reparam.py writes: the whole model is fused, and so has to be its part.
        fused = {key: model[key] for key in ('form', 'deep') if key in model}
        settings = dict(settings, **fused, type=FUSED, network=settings['type'])
    with quiet_initialisation():
        network = revert_sync_batchnorm(MODELS.build(settings))
        network.init_weights()
    weights = RANDOM
    if checkpoint is not None:
        load_backbone(network, checkpoint)
        weights = f'{Path(checkpoint).parent.name}/{Path(checkpoint).name}'.lstrip('/')
    mean, std, bgr = _normalisation(cfg)
    name = Path(path.split('::')[-1]).stem
    return Backbone(name, network.eval(), weights, checkpoint is not None, mean, std, bgr, cfg)


def load_backbone(network: nn.Module, checkpoint: str) -> None:
    """Fill a backbone of any host from a checkpoint of a whole model or of the backbone alone.

    Raises:
        UsageError: The file is not there or does not fit; norms of outputs and classifiers may be missing or left over.
    """
    require_file(checkpoint)
    weights = unwrap_state_dict(
        CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu', logger='silent'), checkpoint
    )
    inner = {key.removeprefix('backbone.'): value for key, value in weights.items() if key.startswith('backbone.')}
    weights = inner or weights
    own = network.state_dict()
    weights = {key: value for key, value in weights.items() if key in own or not key.startswith('norm.')}
    require_fit(network, weights, checkpoint, optional=OUTPUT_NORM_PREFIXES)
    network.load_state_dict(weights, strict=False)


def backbone_of_timm(text: str, size: tuple[int, int] | None = None) -> Backbone:
    """Build one of timm's networks as a backbone.

    Args:
        text: ``NAME`` for random weights, ``NAME=pretrained`` for timm's, which it downloads, ``NAME=FILE`` for others.
        size: (H, W) of the images, for networks that are built for one size.

    Raises:
        UsageError: timm has no such network, or the file is not there or does not fit.
    """
    import timm

    name, _, weights = text.partition('=')
    if not timm.is_model(name):
        close = timm.list_models(f'*{name}*')[:3] or timm.list_models(f'{re.split("[_.0-9]", name)[0]}*')[:3]
        hint = f'did you mean {" or ".join(close)}?' if close else 'python -c "import timm; print(timm.list_models())"'
        raise UsageError(f'expected a network of timm, got {name}; {hint}')
    if weights and weights != PUBLISHED:
        require_file(weights)
    network = _create_timm(timm, name, weights, size)
    settings = getattr(network, 'pretrained_cfg', None) or getattr(network, 'default_cfg', None) or {}
    mean, std = (
        tuple(255 * value for value in settings.get(key) or fallback)
        for key, fallback in (('mean', [v / 255 for v in MEAN]), ('std', [v / 255 for v in STD]))
    )
    source = {'': RANDOM, PUBLISHED: 'weights of timm'}.get(weights, Path(weights).name)
    return Backbone(name, network.eval(), source, bool(weights), mean, std)


class TimmFeatures(nn.Module):
    """The feature map of a timm network that cannot list its stages.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.pretrained_cfg = getattr(network, 'pretrained_cfg', None)
        self.num_prefix_tokens = getattr(network, 'num_prefix_tokens', 0)

    def forward(self, image: Tensor) -> Tensor:
        return self.network.forward_features(image)


def _create_timm(timm, name: str, weights: str, size: tuple[int, int] | None) -> nn.Module:
    ways = [
        dict(features_only=True, **sized) for sized in ([{'img_size': tuple(size)}, {}] if size is not None else [{}])
    ]
    ways += [{key: value for key, value in way.items() if key != 'features_only'} for way in ways]
    settings = dict(pretrained=bool(weights))
    if weights not in ('', PUBLISHED):
        # Not timm's checkpoint_path: it runs what is in a file, and does not fit a network that lists its features.
        settings['pretrained_cfg_overlay'] = dict(state_dict=_read_weights(weights))
    refused: Exception | None = None
    for way in ways:
        try:
            network = timm.create_model(name, **way, **settings)
        except (TypeError, RuntimeError, AttributeError, AssertionError, KeyError) as error:
            # Not every network takes an image size or lists its features; what none takes is told below.
            refused = refused or error
            continue
        return network if 'features_only' in way else TimmFeatures(network)
    raise UsageError(f'timm cannot build {name} as a backbone: {refused}')


def _read_weights(file: str) -> dict[str, Tensor]:
    if not file.endswith('.safetensors'):
        return unwrap_state_dict(CheckpointLoader.load_checkpoint(file, map_location='cpu', logger='silent'), file)
    from safetensors.torch import load_file

    return load_file(file)


def _without_weights(settings: dict) -> dict:
    settings.pop('init_cfg', None)
    settings.pop('pretrained', None)
    return settings


def _normalisation(cfg: Config) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean, deviation and order of colours, as the model of a config sees images."""
    settings = dict(cfg.get('data_preprocessor') or {}) | dict(cfg.model.get('data_preprocessor') or {})
    if settings.get('mean') is None or settings.get('std') is None or len(settings['mean']) != 3:
        return MEAN, STD, False
    # Pictures are loaded with blue first; these turn them round.
    turned = settings.get('bgr_to_rgb') or settings.get('rgb_to_bgr') or settings.get('to_rgb')
    return tuple(settings['mean']), tuple(settings['std']), not turned

"""A model that is built in its train form and fused at once: what a fused checkpoint of any model loads into."""

from __future__ import annotations

from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from mmlk.models.reparam import switch_to_deploy
from mmlk.registry import MODELS


@MODELS.register_module(name='FusedModel')
def build_fused_model(network: str, form: str = 'auto', deep: bool = False, **settings) -> nn.Module:
    """Build a model of any host and fuse it, to load a fused checkpoint into.

    It stands where ``deploy=True`` of a backbone does not suffice: heads whose BatchNorms are folded, mixers outside
    the backbone. Every setting stays where it is in the config, only ``type`` becomes ``network``.

    Args:
        network: Type of the model, such as ``'EncoderDecoder'``.
        form: Fused form of the mixers: ``'auto'``, ``'dense'`` or ``'strips'``.
        deep: Fold every BatchNorm that directly follows a convolution as well.
        **settings: Arguments of the model.

    Returns:
        The model itself, not a wrapper, in evaluation mode.

    Example:
        >>> from mmengine.registry import MODELS
        >>> mixer = dict(type='mmlk.FusedModel', network='mmlk.StripeMixer', channels=8, kernel_size=13)
        >>> list(MODELS.build(mixer).state_dict())[:2]
        ['reparam_convs.0.weight', 'reparam_convs.0.bias']
    """
    return switch_to_deploy(ROOT_MODELS.build(dict(type=network, **settings)), form, deep)

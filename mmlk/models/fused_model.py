"""A model that is built in its train form and fused at once: what a fused checkpoint of any model loads into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from mmlk.models.reparam import switch_to_deploy
from mmlk.nn.compact_conv import CompactConv2d, KernelGroup
from mmlk.registry import MODELS


@MODELS.register_module(name='FusedModel')
def build_fused_model(
    network: str,
    form: str = 'auto',
    deep: bool = False,
    shrunk: Mapping[str, Sequence] | None = None,
    **settings,
) -> nn.Module:
    """Build a model of any host and fuse it, to load a fused checkpoint into.

    It stands where ``deploy=True`` of a backbone does not suffice: heads whose BatchNorms are folded, mixers outside
    the backbone. Every setting stays where it is in the config, only ``type`` becomes ``network``.

    Args:
        network: Type of the model, such as ``'EncoderDecoder'``.
        form: Fused form of the mixers: ``'auto'``, ``'dense'`` or ``'strips'``.
        deep: Fold every BatchNorm that directly follows a convolution as well.
        shrunk: Name of a fused mixer -> the groups of its channels as :func:`shrunk_parts` lists them, where
            :func:`~mmlk.models.shrink.shrink_kernels` has cut it.
        **settings: Arguments of the model.

    Returns:
        The model itself, not a wrapper, in evaluation mode.

    Example:
        >>> from mmengine.registry import MODELS
        >>> mixer = dict(type='mmlk.FusedModel', network='mmlk.StripeMixer', channels=8, kernel_size=13)
        >>> list(MODELS.build(mixer).state_dict())[:2]
        ['reparam_convs.0.weight', 'reparam_convs.0.bias']
    """
    model = switch_to_deploy(ROOT_MODELS.build(dict(type=network, **settings)), form, deep)
    for name, groups in (shrunk or {}).items():
        parent, _, own = name.rpartition('.')
        kernels = [KernelGroup(count, None if sizes is None else tuple(map(tuple, sizes))) for count, sizes in groups]
        setattr(model.get_submodule(parent), own, CompactConv2d(kernels, backend=model.get_submodule(name).backend))
    return model.eval()


def shrunk_parts(model: nn.Module) -> dict[str, list]:
    """What was cut, for a config: name of a module -> (channels, kernel sizes) of each group."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, CompactConv2d)}
    return {name: [(group.channels, group.kernel_sizes) for group in conv.groups] for name, conv in found.items()}

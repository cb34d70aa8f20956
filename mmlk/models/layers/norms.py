"""Normalisation over the channels of NCHW maps."""

from __future__ import annotations

from mmcv.cnn import build_norm_layer
from timm.layers import LayerNorm2d
from torch import nn

from mmlk.registry import MODELS

# ConvNeXt's "channels first" LayerNorm: timm's, under the name mmpretrain users know.
MODELS.register_module('LN2d', module=LayerNorm2d)


def build_norm(norm_cfg: dict, num_features: int) -> nn.Module:
    """Build the layer of ``norm_cfg``, such as ``dict(type='mmlk.LN2d', eps=1e-6)``, for ``num_features`` channels."""
    return build_norm_layer(norm_cfg, num_features)[1]

"""Layers, mixers and backbones; importing this package registers them."""

from mmlk.models.backbones import BaseLargeKernelBackbone, ConvNeXtStyleBackbone, PeLK
from mmlk.models.layers import LargeKernelConv2d
from mmlk.models.mixers import BaseMixer, KernelPositionEmbedding, PeripheralMixer, make_sharing_grid
from mmlk.models.reparam import switch_to_deploy

__all__ = [
    'BaseLargeKernelBackbone',
    'BaseMixer',
    'ConvNeXtStyleBackbone',
    'KernelPositionEmbedding',
    'LargeKernelConv2d',
    'PeLK',
    'PeripheralMixer',
    'make_sharing_grid',
    'switch_to_deploy',
]

"""Layers, mixers and backbones; importing this package registers them."""

from mmlk.models.backbones import (
    BaseLargeKernelBackbone,
    ConvNeXtStyleBackbone,
    PeLK,
    RepLKNet,
    ShiftWiseNet,
    SLaK,
    UniRepLKNet,
)
from mmlk.models.fused_model import build_fused_model
from mmlk.models.layers import LargeKernelConv2d
from mmlk.models.mixers import (
    BaseMixer,
    DenseMixer,
    DilatedReparamMixer,
    KernelPositionEmbedding,
    PeripheralMixer,
    ShiftWiseMixer,
    StripeMixer,
    make_sharing_grid,
)
from mmlk.models.reparam import switch_to_deploy

__all__ = [
    'BaseLargeKernelBackbone',
    'BaseMixer',
    'ConvNeXtStyleBackbone',
    'DenseMixer',
    'DilatedReparamMixer',
    'KernelPositionEmbedding',
    'LargeKernelConv2d',
    'PeLK',
    'PeripheralMixer',
    'RepLKNet',
    'SLaK',
    'ShiftWiseMixer',
    'ShiftWiseNet',
    'StripeMixer',
    'UniRepLKNet',
    'build_fused_model',
    'make_sharing_grid',
    'switch_to_deploy',
]

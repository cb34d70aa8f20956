"""Backbones, registered under the scope ``mmlk``."""

from mmlk.models.backbones.base import BaseLargeKernelBackbone
from mmlk.models.backbones.convnext_style import ConvNeXtStyleBackbone
from mmlk.models.backbones.pelk import PeLK
from mmlk.models.backbones.replknet import RepLKNet
from mmlk.models.backbones.shiftwise import ShiftWiseNet
from mmlk.models.backbones.slak import SLaK
from mmlk.models.backbones.unireplknet import UniRepLKNet

__all__ = [
    'BaseLargeKernelBackbone',
    'ConvNeXtStyleBackbone',
    'PeLK',
    'RepLKNet',
    'SLaK',
    'ShiftWiseNet',
    'UniRepLKNet',
]

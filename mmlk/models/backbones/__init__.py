"""Backbones, registered under the scope ``mmlk``."""

from mmlk.models.backbones.base import BaseLargeKernelBackbone
from mmlk.models.backbones.convnext_style import ConvNeXtStyleBackbone
from mmlk.models.backbones.pelk import PeLK

__all__ = ['BaseLargeKernelBackbone', 'ConvNeXtStyleBackbone', 'PeLK']

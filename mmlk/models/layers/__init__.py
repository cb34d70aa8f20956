"""Building blocks that are registered on their own."""

from mmlk.models.layers.large_kernel_conv import LargeKernelConv2d
from mmlk.models.layers.norms import build_norm

__all__ = ['LargeKernelConv2d', 'build_norm']

"""Building blocks that are registered on their own."""

from mmlk.models.layers.checkpointing import checkpointed
from mmlk.models.layers.grn_ffn import GlobalResponseNorm, GRNFeedForward
from mmlk.models.layers.large_kernel_conv import LargeKernelConv2d
from mmlk.models.layers.norms import build_norm

__all__ = ['GRNFeedForward', 'GlobalResponseNorm', 'LargeKernelConv2d', 'build_norm', 'checkpointed']

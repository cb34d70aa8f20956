"""Large-kernel operators. Importing them needs torch alone."""

from mmlk.ops.depthwise_conv2d import depthwise_conv2d, explain

__all__ = ['depthwise_conv2d', 'explain']

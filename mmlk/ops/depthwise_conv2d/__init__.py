"""Depthwise convolution with one large kernel per channel."""

from mmlk.ops.depthwise_conv2d.functional import depthwise_conv2d, dispatcher, explain

__all__ = ['depthwise_conv2d', 'dispatcher', 'explain']

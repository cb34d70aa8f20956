"""Depthwise convolution with one large kernel per channel."""

from mmlk.ops.depthwise_conv2d.backends import dispatcher
from mmlk.ops.depthwise_conv2d.functional import default_backend, depthwise_conv2d, explain

__all__ = ['default_backend', 'depthwise_conv2d', 'dispatcher', 'explain']

"""Large-kernel operators. Importing them needs torch alone."""

from mmlk.ops.depthwise_conv2d import default_backend, depthwise_conv2d, explain

__all__ = ['default_backend', 'depthwise_conv2d', 'explain']

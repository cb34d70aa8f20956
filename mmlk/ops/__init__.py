"""Large-kernel operators. Importing them needs torch alone."""

from mmlk.ops.depthwise_conv2d import default_backend, depthwise_conv2d, explain
from mmlk.ops.peripheral_conv2d import expand_kernel, peripheral_conv2d

__all__ = ['default_backend', 'depthwise_conv2d', 'expand_kernel', 'explain', 'peripheral_conv2d']

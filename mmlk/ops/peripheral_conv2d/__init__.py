"""Depthwise convolution with a large kernel that shares few parameters."""

from mmlk.ops.peripheral_conv2d.backends import dispatcher
from mmlk.ops.peripheral_conv2d.functional import explain, peripheral_conv2d
from mmlk.ops.peripheral_conv2d.sharing import expand_kernel

__all__ = ['dispatcher', 'expand_kernel', 'explain', 'peripheral_conv2d']

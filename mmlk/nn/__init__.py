"""The op as a module, and the walk that puts it into any model. Importing them needs torch alone."""

from mmlk.nn.accelerate import AccelerationReport, DepthwiseConv, accelerate
from mmlk.nn.large_kernel_conv import LargeKernelConv2d

__all__ = ['AccelerationReport', 'DepthwiseConv', 'LargeKernelConv2d', 'accelerate']

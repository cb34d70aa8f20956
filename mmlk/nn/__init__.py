"""The op as a module, and the walk that puts it into any model. Importing them needs torch alone."""

from mmlk.nn.accelerate import AccelerationReport, DepthwiseConv, accelerate
from mmlk.nn.large_kernel_conv import LargeKernelConv2d
from mmlk.nn.sync_batch_norm import CpuSyncBatchNorm, sync_batch_norm_on_cpu

__all__ = [
    'AccelerationReport',
    'CpuSyncBatchNorm',
    'DepthwiseConv',
    'LargeKernelConv2d',
    'accelerate',
    'sync_batch_norm_on_cpu',
]

"""The convolution layer of :mod:`mmlk.nn` under its name in configs, ``mmlk.LargeKernelConv2d``."""

from mmlk.nn import LargeKernelConv2d
from mmlk.registry import MODELS

MODELS.register_module(module=LargeKernelConv2d)

"""The op in PyTorch's operator library, as ``mmlk::depthwise_conv2d``."""

from __future__ import annotations

from mmlk.ops.depthwise_conv2d.backends import dispatcher
from mmlk.ops.library import Operators

operators = Operators(dispatcher)

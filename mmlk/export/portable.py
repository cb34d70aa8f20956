"""A copy of a model made of nothing but PyTorch's own layers, which exporters can read."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmlk.models.reparam import switch_to_deploy
from mmlk.nn import LargeKernelConv2d


def make_portable(model: nn.Module, form: str = 'auto') -> nn.Module:
    """Copy a model, fuse the copy and let standard convolutions take the place of the large-kernel op.

    A :class:`mmlk.nn.LargeKernelConv2d` is an ``nn.Conv2d`` computed by another operator, so it becomes one by
    its class alone; names, weights and results stay.

    Args:
        model: Any module, from this package or not; it stays as it is.
        form: Fused form, as in :func:`mmlk.models.switch_to_deploy`.

    Returns:
        The copy, in evaluation mode, without gradients.

    Raises:
        TypeError: A branch has a norm that cannot be fused.
        ValueError: A mixer does not have this form.
    """
    portable = switch_to_deploy(copy.deepcopy(model), form)
    for module in portable.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
        if isinstance(module, LargeKernelConv2d):
            module.__class__ = nn.Conv2d
            vars(module).pop('backend', None)
    return portable.requires_grad_(False)


class MatrixAveragePool2d(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products, for ONNX, which has no operator for it.

    Equation: y = A x B^T, row i of A having 1 / n at the n rows of the map from floor(i H / h) to ceil((i + 1) H / h),
    B likewise for columns. The size of the map may differ from call to call.

    Args:
        output_size: (h, w); ``None`` keeps the size of the map.
    """

    def __init__(self, output_size: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, h, w)."""
        height, width = self.output_size
        if width is not None:
            x = x @ _bins(x.shape[3], width, x).t()
        return x if height is None else _bins(x.shape[2], height, x) @ x


def _bins(size: int, count: int, like: Tensor) -> Tensor:
    """Weights (count, size) of an average over bins that may overlap."""
    index = torch.arange(size, device=like.device)
    edge = torch.arange(count, device=like.device)[:, None]
    start, end = edge * size // count, ((edge + 1) * size + count - 1) // count
    inside = ((index >= start) & (index < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def replace_adaptive_pooling(model: nn.Module) -> nn.Module:
    """Put :class:`MatrixAveragePool2d` in place of every adaptive average pooling to more than one cell, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size = child.output_size
                size = (size, size) if isinstance(size, int) else tuple(size)
                if size != (1, 1):
                    setattr(parent, name, MatrixAveragePool2d(size))
    return model

"""Re-parameterisation: one algebra of fusing branches, and the walk that applies it to any model.

A branch is a depthwise convolution followed by an optional BatchNorm. In evaluation both are linear, so a sum of
branches is one convolution: fold each BatchNorm, zero-pad the kernels to a common size around the centre, add.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

FORMS = ('auto', 'dense', 'strips')


class Branch(NamedTuple):
    """One train-time branch of a mixer.

    Attributes:
        kernel: Kernels (C, 1, R, S), R and S odd.
        bias: Offsets (C,) added before the norm.
        norm: BatchNorm over C channels applied after the convolution.
    """

    kernel: Tensor
    bias: Tensor | None = None
    norm: nn.Module | None = None


def fold_norm(branch: Branch) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution equal to the branch in evaluation.

    Equation: k' = k * g / sqrt(v + eps), b' = beta + (b - m) * g / sqrt(v + eps), from the running statistics.

    Returns:
        Kernel (C, 1, R, S) and bias (C,) in float64, so that several branches add up without losing digits.

    Raises:
        TypeError: The norm is not a BatchNorm.
        ValueError: The BatchNorm keeps no running statistics, which is what evaluation needs.
    """
    kernel = branch.kernel.double()
    bias = kernel.new_zeros(kernel.shape[0]) if branch.bias is None else branch.bias.double()
    norm = branch.norm
    if norm is None:
        return kernel, bias
    if not isinstance(norm, _BatchNorm):
        raise TypeError(f'only a BatchNorm can be folded into a convolution, got {type(norm).__name__}')
    if norm.running_var is None:
        raise ValueError('a BatchNorm with track_running_stats=False cannot be folded: it depends on every input')
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = kernel.new_zeros(()) if norm.bias is None else norm.bias.double()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    return kernel * scale[:, None, None, None], shift + (bias - norm.running_mean.double()) * scale


def pad_kernel(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Zero-pad (C, 1, r, s) around the centre to (C, 1, R, S); all edges odd, so the centre taps coincide.

    Raises:
        ValueError: The kernel is larger than ``size``, or the difference is odd.
    """
    margins = [target - edge for target, edge in zip(size, kernel.shape[2:], strict=True)]
    if any(margin < 0 or margin % 2 for margin in margins):
        raise ValueError(f'a kernel of {tuple(kernel.shape[2:])} cannot be centred in one of {tuple(size)}')
    return F.pad(kernel, (margins[1] // 2, margins[1] // 2, margins[0] // 2, margins[0] // 2))


def merge_branches(branches: Iterable[Branch]) -> tuple[Tensor, Tensor]:
    """Fuse branches that are summed into one kernel (C, 1, R, S) and bias (C,), R and S the largest edges among them.

    The result has the dtype of the first kernel.
    """
    branches = list(branches)
    folded = [fold_norm(branch) for branch in branches]
    size = tuple(max(kernel.shape[axis] for kernel, _ in folded) for axis in (2, 3))
    kernel = sum(pad_kernel(kernel, size) for kernel, _ in folded)
    bias = sum(bias for _, bias in folded)
    dtype = branches[0].kernel.dtype
    return kernel.to(dtype), bias.to(dtype)


class Fusable:
    """Mixin of modules with a fused form."""

    def switch_to_deploy(self, form: str = 'auto') -> None:
        """Fuse in place; a second call changes nothing."""
        raise NotImplementedError


def switch_to_deploy(model: nn.Module, form: str = 'auto', deep: bool = False) -> nn.Module:
    """Fuse, in place, every part of ``model`` that can be fused; a second call changes nothing.

    Args:
        model: Any module: a mixer, a backbone, a classifier, a segmentor, a detector.
        form: ``'dense'`` (one kernel), ``'strips'`` (a vertical and a horizontal one) or ``'auto'`` (what the mixer
            prefers).
        deep: Fold every remaining BatchNorm that directly follows a convolution as well, heads of other toolboxes
            included. Such a model has other keys than one built with ``deploy=True``.

    Returns:
        ``model``, in evaluation mode: fused convolutions are not trained further.

    Raises:
        ValueError: ``form`` is unknown, or a mixer does not have it.
    """
    if form not in FORMS:
        raise ValueError(f'form must be one of {FORMS}, got {form!r}')
    for module in list(model.modules()):
        if isinstance(module, Fusable):
            module.switch_to_deploy(form)
    model.eval()
    if deep:
        # Here, because it is the only thing in this file that needs mmcv.
        from mmcv.cnn import fuse_conv_bn

        with torch.no_grad():
            fuse_conv_bn(model)
    return model

"""Dilated re-parameterisation of UniRepLKNet (arXiv 2311.15599, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from mmlk.models.layers import build_norm
from mmlk.models.mixers.base import BaseMixer
from mmlk.models.reparam import Branch
from mmlk.ops import depthwise_conv2d
from mmlk.ops.checks import check_odd
from mmlk.registry import MODELS

#: (k, r) of the authors' parallel k x k convolutions with dilation r, per K.
DILATED_KERNELS = {
    5: ((3, 1), (3, 2)),
    7: ((5, 1), (3, 2), (3, 3)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}


@MODELS.register_module()
class DilatedReparamMixer(BaseMixer):
    """Depthwise K x K convolution with parallel smaller ones that are dilated, a norm after each.

    Equation: y = Norm(x * W) + sum_i Norm_i(x * D(w_i, r_i)), where * is the depthwise convolution and D(w, r) the
    k x k kernel w with r - 1 zeros between its taps, a dense kernel of edge r (k - 1) + 1.

    Args:
        channels: Channels of input and output.
        kernel_size: Edge K of the large kernel, odd.
        dilated_kernels: Pairs (k, r) of the smaller convolutions; ``None`` takes the authors' for this K (5 to 17), an
            empty sequence has none.
        norm_cfg: BatchNorm after each convolution; ``None`` is ``dict(type='BN')``.
        deploy: Build the fused form, by ``True`` or by its name.
        backend: Backend of the op for the large kernel; ``None`` takes the first that can run.

    Raises:
        ValueError: A kernel is even, a dilated one reaches beyond the large one or is named twice, or
            ``dilated_kernels`` is not given and the authors have none for this K.

    Example:
        >>> mixer = DilatedReparamMixer(channels=64, kernel_size=13)
        >>> mixer.dilated_kernels
        ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5))
        >>> mixer(torch.ones(1, 64, 14, 14)).shape
        torch.Size([1, 64, 14, 14])
    """

    large_kernel_weights = ('large_weight',)

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilated_kernels: Sequence[tuple[int, int]] | None = None,
        norm_cfg: dict | None = None,
        deploy: bool | str = False,
        backend: str | None = None,
    ) -> None:
        check_odd('kernel_size', (kernel_size,))
        if dilated_kernels is None:
            if kernel_size not in DILATED_KERNELS:
                raise ValueError(
                    f'kernel_size without dilated_kernels must be one of {tuple(DILATED_KERNELS)}, for which the '
                    f'authors chose them, got {kernel_size}; give pairs (k, dilation)'
                )
            dilated_kernels = DILATED_KERNELS[kernel_size]
        dilated_kernels = tuple((edge, dilation) for edge, dilation in dilated_kernels)
        for edge, dilation in dilated_kernels:
            check_odd('a kernel of dilated_kernels', (edge,))
            if dilation < 1 or dilation * (edge - 1) + 1 > kernel_size:
                raise ValueError(
                    f'dilated_kernels must have dilations of at least 1 and lie within kernel_size {kernel_size}, got '
                    f'a kernel of {edge} with dilation {dilation}, which spans {dilation * (edge - 1) + 1}'
                )
        if len(set(dilated_kernels)) < len(dilated_kernels):
            raise ValueError(f'dilated_kernels must not name a pair twice, got {dilated_kernels}')
        super().__init__(channels, (kernel_size, kernel_size), backend=backend)
        self.dilated_kernels = dilated_kernels
        self.norm_cfg = {'type': 'BN'} if norm_cfg is None else norm_cfg
        self.build(deploy)

    def build_branches(self) -> None:
        channels, edge = self.channels, self.kernel_size[0]
        self.large_weight = nn.Parameter(torch.empty(channels, 1, edge, edge))
        self.large_norm = build_norm(self.norm_cfg, channels)
        self.dilated_weights = nn.ParameterDict(
            {f'k{k}_d{r}': nn.Parameter(torch.empty(channels, 1, k, k)) for k, r in self.dilated_kernels}
        )
        self.dilated_norms = nn.ModuleDict(
            {f'k{k}_d{r}': build_norm(self.norm_cfg, channels) for k, r in self.dilated_kernels}
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal, std 0.02, as every convolution of the network."""
        for weight in (self.large_weight, *self.dilated_weights.values()):
            trunc_normal_(weight, std=0.02)

    def branches(self) -> list[Branch]:
        dilated = [
            Branch(dilate_kernel(self.dilated_weights[f'k{k}_d{r}'], r), None, self.dilated_norms[f'k{k}_d{r}'])
            for k, r in self.dilated_kernels
        ]
        return [Branch(self.large_weight, None, self.large_norm), *dilated]

    def mix(self, x: Tensor) -> Tensor:
        """The sum of the convolutions; the dilated ones leave out the zeros that :meth:`branches` writes."""
        if self.deployed:
            return super().mix(x)
        y = self.large_norm(depthwise_conv2d(x, self.large_weight, backend=self.backend))
        # Forward and backward of the five branches of K = 13 take 195 ms this way and 469 ms with the zeros (batch 8,
        # 160 channels, 28 x 28, one CPU thread).
        for k, r in self.dilated_kernels:
            weight, norm = self.dilated_weights[f'k{k}_d{r}'], self.dilated_norms[f'k{k}_d{r}']
            y = y + norm(F.conv2d(x, weight, padding=r * (k // 2), dilation=r, groups=self.channels))
        return y


def dilate_kernel(kernel: Tensor, dilation: int) -> Tensor:
    """Write a dilated kernel (C, 1, k, k) as a dense one of edge r (k - 1) + 1, with zeros between the taps."""
    edge = dilation * (kernel.shape[-1] - 1) + 1
    dense = kernel.new_zeros(*kernel.shape[:2], edge, edge)
    dense[..., ::dilation, ::dilation] = kernel
    return dense

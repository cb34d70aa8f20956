"""Decomposed large kernel of SLaK (arXiv 2207.03620, section 4): two strips and a small square."""

from __future__ import annotations

import torch
from timm.layers import trunc_normal_
from torch import nn

from mmlk.models.layers import build_norm
from mmlk.models.mixers.base import BaseMixer
from mmlk.models.reparam import Branch
from mmlk.ops.checks import check_odd
from mmlk.registry import MODELS

_BN = {'type': 'BN'}


@MODELS.register_module()
class StripeMixer(BaseMixer):
    """Sum of an M x N, an N x M and an N x N depthwise convolution, each with its own BatchNorm.

    Equation: y = BN(x * w_v) + BN(x * w_h) + BN(x * w_s), w_v (C, 1, M, N), w_h (C, 1, N, M), w_s (C, 1, N, N); no
    identity and no activation.

    The fused form ``'strips'`` is two convolutions: the small square lies within the vertical strip and is added to it.
    ``'dense'`` is one M x M cross; it needs M / (2 N) times the arithmetic and halves the speed where no
    implicit-GEMM kernel computes it, so ``'auto'`` means the strips.

    Args:
        channels: Channels of input and output.
        kernel_size: Long edge M, odd.
        small_kernel: Short edge N, odd, smaller than M.
        norm_cfg: BatchNorm after each convolution; ``None`` for none.
        deploy: Build the fused form: ``True`` for the strips, or the name of a form.
        backend: Backend of the op; ``None`` takes the first that can run.

    Raises:
        ValueError: An edge is even, or N is not smaller than M.

    Note:
        The authors call the strips LoRA1 (vertical) and LoRA2 (horizontal), but they are two convolutions side by side,
        not a product of low rank.

    Example:
        >>> mixer = StripeMixer(channels=8, kernel_size=51)
        >>> mixer(torch.ones(1, 8, 14, 14)).shape
        torch.Size([1, 8, 14, 14])
        >>> [tuple(kernel.shape) for kernel, bias in mixer.fused_kernel_bias()]
        [(8, 1, 51, 5), (8, 1, 5, 51)]
    """

    forms = ('strips', 'dense')
    large_kernel_weights = ('vertical_weight', 'horizontal_weight')

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        small_kernel: int = 5,
        norm_cfg: dict | None = _BN,
        deploy: bool | str = False,
        backend: str | None = None,
    ) -> None:
        check_odd('kernel_size', (kernel_size,))
        check_odd('small_kernel', (small_kernel,))
        if small_kernel >= kernel_size:
            raise ValueError(f'small_kernel must be smaller than kernel_size {kernel_size}, got {small_kernel}')
        super().__init__(channels, (kernel_size, kernel_size), backend=backend)
        self.small_kernel = small_kernel
        self.norm_cfg = norm_cfg
        self.build(deploy)

    def build_branches(self) -> None:
        channels, long, short = self.channels, self.kernel_size[0], self.small_kernel
        self.vertical_weight = nn.Parameter(torch.empty(channels, 1, long, short))
        self.horizontal_weight = nn.Parameter(torch.empty(channels, 1, short, long))
        self.small_weight = nn.Parameter(torch.empty(channels, 1, short, short))
        if self.norm_cfg is not None:
            self.vertical_norm = build_norm(self.norm_cfg, channels)
            self.horizontal_norm = build_norm(self.norm_cfg, channels)
            self.small_norm = build_norm(self.norm_cfg, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal, std 0.02, as every convolution of the network."""
        for weight in (self.vertical_weight, self.horizontal_weight, self.small_weight):
            trunc_normal_(weight, std=0.02)

    def branches(self) -> list[Branch]:
        """The vertical strip, the horizontal strip, the small square."""
        return [
            Branch(self.vertical_weight, None, getattr(self, 'vertical_norm', None)),
            Branch(self.horizontal_weight, None, getattr(self, 'horizontal_norm', None)),
            Branch(self.small_weight, None, getattr(self, 'small_norm', None)),
        ]

    def group_branches(self, form: str) -> list[list[Branch]]:
        vertical, horizontal, small = self.branches()
        if form == 'dense':
            return [[vertical, horizontal, small]]
        return [[vertical, small], [horizontal]]

    def deploy_kernel_sizes(self, form: str) -> list[tuple[int, int]]:
        if form == 'dense':
            return [self.kernel_size]
        long, short = self.kernel_size[0], self.small_kernel
        return [(long, short), (short, long)]

"""Re-parameterised large kernel of RepLKNet (arXiv 2203.06717, section 3, guideline 3)."""

from __future__ import annotations

import math

import torch
from torch import nn

from mmlk.models.layers import build_norm
from mmlk.models.mixers.base import BaseMixer
from mmlk.models.reparam import Branch
from mmlk.ops.checks import check_odd
from mmlk.registry import MODELS

_BN = {'type': 'BN'}


@MODELS.register_module()
class DenseMixer(BaseMixer):
    """Depthwise K x K convolution with free weights, trained beside a k x k one; each has its BatchNorm.

    Equation: y = BN(w_K * x) + BN(w_k * x); the sum comes after the norms, no activation inside. Fused, this is one
    K x K convolution with bias: the k x k kernel is zero-padded by (K - k) / 2 on each side.

    Args:
        channels: Channels of input and output.
        kernel_size: Edge K of the square kernel, odd.
        small_kernel: Edge k <= K of the parallel kernel, odd; ``None`` for no such branch.
        norm_cfg: BatchNorm after each convolution; ``None`` for none.
        deploy: Build the fused form.
        backend: Backend of the op; ``None`` takes the first that can run.

    Raises:
        ValueError: A kernel is even, or the small one is larger than the large one.

    Example:
        >>> mixer = DenseMixer(channels=64, kernel_size=31, small_kernel=5)
        >>> mixer(torch.ones(1, 64, 14, 14)).shape, mixer.weight.shape
        (torch.Size([1, 64, 14, 14]), torch.Size([64, 1, 31, 31]))
    """

    large_kernel_weights = ('weight',)

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        small_kernel: int | None = None,
        norm_cfg: dict | None = _BN,
        deploy: bool = False,
        backend: str | None = None,
    ) -> None:
        check_odd('kernel_size', (kernel_size,))
        if small_kernel is not None:
            check_odd('small_kernel', (small_kernel,))
            if small_kernel > kernel_size:
                raise ValueError(f'small_kernel must not exceed kernel_size {kernel_size}, got {small_kernel}')
        super().__init__(channels, (kernel_size, kernel_size), backend=backend)
        self.small_kernel = small_kernel
        self.norm_cfg = norm_cfg
        self.build(deploy)

    def build_branches(self) -> None:
        self.weight = nn.Parameter(torch.empty(self.channels, 1, *self.kernel_size))
        if self.small_kernel is not None:
            self.small_weight = nn.Parameter(torch.empty(self.channels, 1, self.small_kernel, self.small_kernel))
        if self.norm_cfg is not None:
            self.norm = build_norm(self.norm_cfg, self.channels)
            if self.small_kernel is not None:
                self.small_norm = build_norm(self.norm_cfg, self.channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As ``nn.Conv2d`` starts, which is what the authors use: uniform in +-1/K and +-1/k."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.small_kernel is not None:
            nn.init.kaiming_uniform_(self.small_weight, a=math.sqrt(5))

    def branches(self) -> list[Branch]:
        branches = [Branch(self.weight, None, getattr(self, 'norm', None))]
        if self.small_kernel is not None:
            branches.append(Branch(self.small_weight, None, getattr(self, 'small_norm', None)))
        return branches

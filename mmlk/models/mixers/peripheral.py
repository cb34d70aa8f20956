"""Peripheral convolution of PeLK (arXiv 2403.07589, sections 4.1 to 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from mmlk.models.layers import build_norm
from mmlk.models.mixers.base import BaseMixer
from mmlk.models.mixers.sharing_grid import check_sharing_grid, make_sharing_grid
from mmlk.models.reparam import Branch
from mmlk.ops import depthwise_conv2d, expand_kernel, peripheral_conv2d
from mmlk.ops.checks import check_odd
from mmlk.ops.peripheral_conv2d.sharing import collapse_gradient
from mmlk.registry import MODELS


class KernelPositionEmbedding(nn.Module):
    """Kernel-wise positional embedding h of shape (g, K, K), shared by all mixers of a stage (section 4.2).

    Args:
        channels: Convolved channels g.
        kernel_size: Edge K.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, kernel_size, kernel_size))
        trunc_normal_(self.weight, std=0.02)

    def forward(self, kernel: Tensor) -> Tensor:
        """Offset (g,) that the embedding adds to a convolution with ``kernel`` (g, 1, K, K).

        Eq. 3 adds h to every window, Y(x, y) = sum_ij w(i, j) * (X(x+i, y+j) + h(i, j)), at padded positions too. As h
        does not depend on (x, y), that is conv(X, w) + <w, h>: a bias, at no cost per pixel.
        """
        return (kernel.squeeze(1) * self.weight).sum((1, 2))

    def shared(self, weight: Tensor, grid: Sequence[int]) -> Tensor:
        """The same offset from the parameters ``weight`` (g, 1, k', k') of the kernel, without expanding them."""
        return (weight * collapse_gradient(self.weight[:, None], tuple(grid))).sum((1, 2, 3))


@MODELS.register_module()
class PeripheralMixer(BaseMixer):
    """Depthwise K x K convolution on k' x k' parameters, shared finely at the centre, coarsely in the periphery.

    Equation: w[x, y] = theta[a, b] for x in the a-th and y in the b-th group of the sharing grid (Eq. 1); the first
    ``int(partial_ratio * channels)`` channels are convolved, the others pass by and come after them (Eq. 4 to 6).

    Args:
        channels: Channels of input and output.
        kernel_size: Edge K of the square kernel, odd.
        sharing_grid: Group sizes along an axis, adding up to K; ``None`` makes the paper's.
        center_radius: Radius of the fine centre where ``sharing_grid`` is ``None``, in taps.
        partial_ratio: Share of the channels that are convolved (paper: 3/8).
        position_embedding: ``True`` creates an own embedding; a :class:`KernelPositionEmbedding` is used without owning
            it, as the mixers of one stage do; ``False`` has none. ``None`` is ``True`` unless ``norm_cfg`` is given.
        small_kernel: Edge of a parallel dense kernel trained beside the large one; ``None`` for no such branch.
        norm_cfg: BatchNorm after each convolution, such as ``dict(type='BN')``; ``None`` for none.
        deploy: Build the fused form.
        backend: Backend of the op; ``None`` takes the first that can run.

    Note:
        The paper does not state whether a norm follows the convolution. The default has none, because the block's
        LayerNorm does; and since a BatchNorm removes every constant per channel, the embedding would be inert with one
        and is refused.

    Raises:
        ValueError: A kernel is even, the grid does not add up to K, no channel is left to convolve, or both
            ``position_embedding`` and ``norm_cfg`` are asked for.

    Example:
        >>> mixer = PeripheralMixer(channels=64, kernel_size=51)
        >>> mixer(torch.ones(1, 64, 14, 14)).shape, mixer.weight.shape
        (torch.Size([1, 64, 14, 14]), torch.Size([24, 1, 13, 13]))
    """

    large_kernel_weights = ('weight',)

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        sharing_grid: Sequence[int] | None = None,
        center_radius: int = 2,
        partial_ratio: float = 3 / 8,
        position_embedding: bool | KernelPositionEmbedding | None = None,
        small_kernel: int | None = None,
        norm_cfg: dict | None = None,
        deploy: bool = False,
        backend: str | None = None,
    ) -> None:
        check_odd('kernel_size', (kernel_size,))
        if sharing_grid is None:
            sharing_grid = make_sharing_grid(kernel_size, center_radius)
        sharing_grid = check_sharing_grid(sharing_grid, kernel_size)
        conv_channels = int(partial_ratio * channels)
        if not 1 <= conv_channels <= channels:
            raise ValueError(
                f'partial_ratio must leave between 1 and {channels} of {channels} channels to convolve, got '
                f'{partial_ratio}'
            )
        if small_kernel is not None:
            check_odd('small_kernel', (small_kernel,))
            if small_kernel > kernel_size:
                raise ValueError(f'small_kernel must not exceed kernel_size {kernel_size}, got {small_kernel}')
        if position_embedding and norm_cfg is not None:
            raise ValueError(
                'position_embedding has no effect in front of the BatchNorm of norm_cfg, which removes every constant '
                f'per channel; give one of them, got norm_cfg={norm_cfg}'
            )
        super().__init__(channels, (kernel_size, kernel_size), conv_channels, backend)
        self.sharing_grid = sharing_grid
        self.small_kernel = small_kernel
        self.norm_cfg = norm_cfg
        if position_embedding is None:
            position_embedding = norm_cfg is None
        self._wants_own_embedding = position_embedding is True
        # In a tuple, so that a shared embedding is not registered here: the stage owns it, once.
        self._shared_embedding = (
            (position_embedding,) if isinstance(position_embedding, KernelPositionEmbedding) else ()
        )
        self.build(deploy)

    def build_branches(self) -> None:
        channels, edge = self.conv_channels, len(self.sharing_grid)
        self.weight = nn.Parameter(torch.empty(channels, 1, edge, edge))
        if self._wants_own_embedding:
            self.position_embedding = KernelPositionEmbedding(channels, self.kernel_size[0])
        if self.small_kernel is not None:
            self.small_weight = nn.Parameter(torch.empty(channels, 1, self.small_kernel, self.small_kernel))
        if self.norm_cfg is not None:
            self.norm = build_norm(self.norm_cfg, channels)
            if self.small_kernel is not None:
                self.small_norm = build_norm(self.norm_cfg, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal, std 0.02, as every convolution of the SLaK and PeLK networks."""
        trunc_normal_(self.weight, std=0.02)
        if self.small_kernel is not None:
            trunc_normal_(self.small_weight, std=0.02)

    def expand_kernel(self) -> Tensor:
        """The K x K kernel (g, 1, K, K): every tap takes the parameter of its group (Eq. 1)."""
        return expand_kernel(self.weight, self.sharing_grid)

    def convolve_branches(self, x: Tensor) -> list[Tensor]:
        """As of the base class, with the op that knows the sharing grid."""
        embedding = self._embedding
        bias = None if embedding is None else embedding.shared(self.weight, self.sharing_grid)
        outputs = [peripheral_conv2d(x, self.weight, self.sharing_grid, bias, backend=self.backend)]
        if self.small_kernel is not None:
            outputs.append(depthwise_conv2d(x, self.small_weight, backend=self.backend))
        if self.norm_cfg is not None:
            outputs = [norm(y) for norm, y in zip((self.norm, getattr(self, 'small_norm', None)), outputs)]
        return outputs

    @property
    def _embedding(self) -> KernelPositionEmbedding | None:
        return self._shared_embedding[0] if self._shared_embedding else getattr(self, 'position_embedding', None)

    def branches(self) -> list[Branch]:
        kernel = self.expand_kernel()
        embedding = self._embedding
        bias = None if embedding is None else embedding(kernel)
        branches = [Branch(kernel, bias, getattr(self, 'norm', None))]
        if self.small_kernel is not None:
            branches.append(Branch(self.small_weight, None, getattr(self, 'small_norm', None)))
        return branches

    def release_branches(self) -> None:
        super().release_branches()
        self._shared_embedding = ()

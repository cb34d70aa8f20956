"""Shift-wise convolution of SW (arXiv 2401.12736, and ShiftwiseConv, CVPR 2025)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from mmlk.models.layers import build_norm
from mmlk.models.mixers.base import BaseMixer
from mmlk.models.mixers.shift_index import count_placements, make_ghost_split, make_shift_tables
from mmlk.models.reparam import Branch
from mmlk.ops.checks import check_odd
from mmlk.registry import MODELS

_BN = {'type': 'BN'}


@MODELS.register_module()
class ShiftWiseMixer(BaseMixer):
    """A large cross from nk = ceil(M / N) small N x N kernels per channel, put side by side in random order.

    The authors convolve with every small kernel, shift the nk results to their slots and add them up. As they pad by
    N - 1, no tap is lost, and the sum equals three depthwise convolutions with tied weights, which is what is computed
    here::

        K_h (N x nk N):  column block j = sum_a W[c, P_a,c(j)]
        K_v (nk N x N):  row block j    = sum_a W[c, Q_a,c(j)]
        K_s (N x N)   :                   sum_a W[c, I_a,c]
        y = BN(x * K_h) + BN(x * K_v) + BN(x * K_s) + x

    with W the sum over the paths and the tables P, Q, I of :mod:`~mmlk.models.mixers.shift_index`. A strip reaches from
    -M // 2 to nk N - 1 - M // 2, so it is padded with zeros to an odd, centred kernel: 53 for M = 49, N = 3.

    Some channels ("ghosts") pass by. **The convolved channels come out first, the ghosts last**; they do not return to
    their places, and the layers behind are trained for this order.

    The fused form ``'strips'`` is two convolutions: the centre and the identity lie within the vertical strip and are
    added to it. ``'dense'`` is one cross.

    Args:
        channels: Channels of input and output.
        kernel_size: Length M of the focus area, odd.
        small_kernel: Edge N of the small kernels, odd; the width of the focus area.
        ghost_ratio: Share of the channels that pass by.
        num_paths: Parallel copies of the small kernels, whose weights are summed (``N_path`` in the authors' code,
            "Rep" in the paper).
        num_arrangements: Random arrangements that are summed (``N_rep`` in the authors' code, "edges" in the paper).
        version: ``'v1'`` or ``'v2'``: how the number of ghosts is rounded.
        norm_cfg: BatchNorm after each convolution; ``None`` for none.
        deploy: Build the fused form: ``True`` for the strips, or the name of a form.
        backend: Backend of the op; ``None`` takes the first that can run.

    Raises:
        ValueError: An edge is even, N is larger than M, a count is not positive, or no channel is left to convolve.

    Example:
        >>> mixer = ShiftWiseMixer(channels=80, kernel_size=49)
        >>> mixer(torch.ones(1, 80, 14, 14)).shape, mixer.paths[0].shape
        (torch.Size([1, 80, 14, 14]), torch.Size([1020, 1, 3, 3]))
        >>> [tuple(kernel.shape) for kernel, bias in mixer.fused_kernel_bias()]
        [(60, 1, 53, 3), (60, 1, 3, 53)]
    """

    forms = ('strips', 'dense')
    large_kernel_weights = ('paths',)

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        small_kernel: int = 3,
        ghost_ratio: float = 0.23,
        num_paths: int = 2,
        num_arrangements: int = 4,
        version: str = 'v2',
        norm_cfg: dict | None = _BN,
        deploy: bool | str = False,
        backend: str | None = None,
    ) -> None:
        check_odd('kernel_size', (kernel_size,))
        check_odd('small_kernel', (small_kernel,))
        if small_kernel > kernel_size:
            raise ValueError(f'small_kernel must not exceed kernel_size {kernel_size}, got {small_kernel}')
        for name, value in (('num_paths', num_paths), ('num_arrangements', num_arrangements)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        split = make_ghost_split(channels, ghost_ratio, version)
        num_kernels = -(-kernel_size // small_kernel)
        before = kernel_size // 2
        after = num_kernels * small_kernel - 1 - before
        edge = 2 * max(before, after) + 1
        super().__init__(channels, (edge, edge), len(split.convolved), backend)
        self.small_kernel = small_kernel
        self.num_kernels = num_kernels
        self.num_paths = num_paths
        self.num_arrangements = num_arrangements
        self.norm_cfg = norm_cfg
        #: Zeros before and after a strip that put the centre of the focus area into the middle.
        self.margins = (edge // 2 - before, edge // 2 - after)
        # Constants of the configuration, not of the checkpoint. As arrays they survive every change of device and
        # dtype, the meta device and `to_empty` included; `_constants` holds their copies where the mixer runs.
        self._split = split
        self._placements = count_placements(make_shift_tables(num_kernels, self.conv_channels, num_arrangements))
        self._constants: dict[str, Tensor] = {}
        self.build(deploy)

    def build_branches(self) -> None:
        channels, edge = self.conv_channels, self.small_kernel
        shape = (channels * self.num_kernels, 1, edge, edge)
        self.paths = nn.ParameterList(nn.Parameter(torch.empty(shape)) for _ in range(self.num_paths))
        if self.norm_cfg is not None:
            self.horizontal_norm = build_norm(self.norm_cfg, channels)
            self.vertical_norm = build_norm(self.norm_cfg, channels)
            self.small_norm = build_norm(self.norm_cfg, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal, std 0.02, as every convolution of the network."""
        for weight in self.paths:
            trunc_normal_(weight, std=0.02)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Part the input (N, C, H, W) into the convolved channels and the ghosts."""
        if self.conv_channels == self.channels:
            return x, None
        convolved, ghost = (self._constant(name, x.device) for name in ('convolved', 'ghost'))
        return x.index_select(1, convolved), x.index_select(1, ghost)

    def mix(self, x: Tensor) -> Tensor:
        y = super().mix(x)
        # The identity has no norm; fused, it is a tap.
        return y if self.deployed else y + x

    def expand_kernels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Horizontal strip (C, 1, N, K), vertical strip (C, 1, K, N) and centre (C, 1, N, N), K odd and centred."""
        channels, edge, count = self.conv_channels, self.small_kernel, self.num_kernels
        first, *others = self.paths
        weight = sum(others, first).reshape(channels, 1, count, edge * edge)
        # Counts times kernels instead of an index: the gradient is a sum in a fixed order, deterministic everywhere.
        placed = (self._constant('placements', weight.device).unsqueeze(-1) * weight).sum(2)
        horizontal, vertical, center = placed.unflatten(-1, (edge, edge)).split((count, count, 1), 1)
        horizontal = horizontal.transpose(1, 2).reshape(channels, 1, edge, count * edge)
        vertical = vertical.reshape(channels, 1, count * edge, edge)
        return F.pad(horizontal, self.margins), F.pad(vertical, (0, 0, *self.margins)), center

    def branches(self) -> list[Branch]:
        """The horizontal strip, the vertical strip, the centre."""
        names = ('horizontal_norm', 'vertical_norm', 'small_norm')
        return [
            Branch(kernel, None, getattr(self, name, None))
            for kernel, name in zip(self.expand_kernels(), names, strict=True)
        ]

    def group_branches(self, form: str) -> list[list[Branch]]:
        horizontal, vertical, center = self.branches()
        identity = Branch(torch.ones_like(center.kernel[:, :, :1, :1]))
        if form == 'dense':
            return [[vertical, horizontal, center, identity]]
        return [[vertical, center, identity], [horizontal]]

    def deploy_kernel_sizes(self, form: str) -> list[tuple[int, int]]:
        if form == 'dense':
            return [self.kernel_size]
        long, short = self.kernel_size[0], self.small_kernel
        return [(long, short), (short, long)]

    def release_branches(self) -> None:
        super().release_branches()
        self._constants.pop('placements', None)

    def _constant(self, name: str, device: torch.device) -> Tensor:
        value = self._constants.get(name)
        if value is None or value.device != device:
            array = self._placements if name == 'placements' else getattr(self._split, name)
            # Made during inference, they must serve training too.
            with torch.inference_mode(False):
                value = self._constants[name] = torch.from_numpy(array).to(device)
        return value

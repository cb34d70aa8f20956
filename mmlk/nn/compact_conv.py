"""A depthwise convolution with as many taps per channel as its kernel has, for kernels that are partly zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlk.nn.large_kernel_conv import LargeKernelConv2d
from mmlk.ops.memory_format import output_format


class KernelGroup(NamedTuple):
    """Channels that are computed together.

    Attributes:
        channels: Their number.
        kernel_sizes: Kernels (R, S) whose outputs are added, odd edges. ``()``: the output is the bias. ``None``: the
            channels pass by.
    """

    channels: int
    kernel_sizes: tuple[tuple[int, int], ...] | None

    def __str__(self) -> str:
        """Such as '6 of 51x3 + 3x51'."""
        if self.kernel_sizes is None:
            return f'{self.channels} pass by'
        return f'{self.channels} of ' + (' + '.join(f'{r}x{s}' for r, s in self.kernel_sizes) or 'bias')


class CompactConv2d(nn.Module):
    """Depthwise convolution, stride 1, output the size of the input, whose channels come in groups.

    Every group has kernels of its own sizes; those of one group are added. The channels of a group may come from and go
    to any places of the map; :func:`mmlk.models.shrink.shrink_kernels` makes these of fused mixers and fills them.

    Args:
        groups: The groups; their channels add up to C, here in the order of the map.
        device: As in ``nn.Conv2d``.
        dtype: As in ``nn.Conv2d``.
        backend: Backend of the op; ``None`` takes the first that can run.

    Attributes:
        parts: One module per group: ``convs`` with weights (c, 1, R, S), of which the first has the bias (c,), or the
            constant ``bias`` (c,); and, of more than one group, ``sources``, its channels in the input.
        order: For each channel of the output its place among the outputs of the groups; only of more than one group.

    Raises:
        ValueError: There is no group, or one has no channel.

    Example:
        >>> conv = CompactConv2d([KernelGroup(6, ((51, 3), (3, 51))), KernelGroup(2, ())])
        >>> conv(torch.ones(1, 8, 14, 14)).shape
        torch.Size([1, 8, 14, 14])
    """

    def __init__(self, groups: Sequence[KernelGroup], device=None, dtype=None, backend: str | None = None) -> None:
        super().__init__()
        self.groups = tuple(groups)
        if not self.groups or min(group.channels for group in self.groups) < 1:
            raise ValueError(f'groups must be one or more with a channel or more each, got {list(groups)}')
        self.channels = sum(group.channels for group in self.groups)
        self.backend = backend
        self.parts = nn.ModuleList()
        start = 0
        for group in self.groups:
            indices = None
            if len(self.groups) > 1:
                indices = torch.arange(start, start + group.channels, device=device)
            self.parts.append(_Part(group, indices, backend, {'device': device, 'dtype': dtype}))
            start += group.channels
        if len(self.groups) > 1:
            self.register_buffer('order', torch.arange(start, device=device))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to the same shape."""
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f'CompactConv2d expects (N, {self.channels}, H, W), got {tuple(x.shape)}')
        if len(self.parts) == 1:
            return self.parts[0](x)
        dtype = _output_dtype(x)
        # A constant needs no input.
        pieces = [part(_take(x, part.sources) if part.reads else x).to(dtype) for part in self.parts]
        return _take(torch.cat(pieces, 1), self.order)

    def extra_repr(self) -> str:
        """Channels and kernels of the groups."""
        return ', '.join(map(str, self.groups))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], backend: str | None = None) -> CompactConv2d:
        """An empty module of the shapes in a state dict of one, to load it.

        Raises:
            ValueError: It is not the state dict of one.
        """
        groups: list[KernelGroup] = []
        while any(key.startswith(f'parts.{len(groups)}.') for key in state):
            prefix = f'parts.{len(groups)}.'
            sizes: list[tuple[int, int]] = []
            while f'{prefix}convs.{len(sizes)}.weight' in state:
                sizes.append(tuple(state[f'{prefix}convs.{len(sizes)}.weight'].shape[2:]))
            bias = state.get(f'{prefix}convs.0.bias', state.get(f'{prefix}bias'))
            if bias is not None:
                groups.append(KernelGroup(len(bias), tuple(sizes)))
            else:
                groups.append(KernelGroup(len(state[f'{prefix}sources']), None))
        if not groups:
            raise ValueError(f'expected the state dict of a CompactConv2d, got the keys {sorted(state)[:4]}')
        return cls(groups, backend=backend)


class _Part(nn.Module):
    """One group: a sum of convolutions, a constant, or nothing."""

    def __init__(self, group: KernelGroup, indices: Tensor | None, backend: str | None, factory: dict) -> None:
        super().__init__()
        count, sizes = group.channels, group.kernel_sizes
        self.reads = sizes != ()
        if indices is not None:
            self.register_buffer('sources', indices)
        self.convs = nn.ModuleList(
            LargeKernelConv2d(count, count, size, bias=index == 0, backend=backend, **factory)
            for index, size in enumerate(sizes or ())
        )
        if sizes == ():
            self.bias = nn.Parameter(torch.zeros(count, **factory))

    def forward(self, x: Tensor) -> Tensor:
        if not self.reads:
            n, _, h, w = x.shape
            constant = self.bias[None, :, None, None].to(_output_dtype(x)).expand(n, -1, h, w)
            return constant.contiguous(memory_format=output_format(x))
        if not self.convs:
            return x
        first, *others = (conv(x) for conv in self.convs)
        return sum(others, first)


def _take(x: Tensor, channels: Tensor) -> Tensor:
    """Channels of (N, C, H, W), in the layout of ``x``."""
    if output_format(x) != torch.channels_last:
        return x.index_select(1, channels)
    # index_select would write a contiguous map, which costs a transposition; of a matrix it copies rows.
    n, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n * h * w, c).index_select(1, channels)
    return rows.view(n, h, w, -1).permute(0, 3, 1, 2)


def _output_dtype(x: Tensor) -> torch.dtype:
    """What a convolution of ``x`` gives: under autocast not the dtype of ``x``."""
    device = x.device.type
    if x.dtype != torch.float64 and device in ('cpu', 'cuda') and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype

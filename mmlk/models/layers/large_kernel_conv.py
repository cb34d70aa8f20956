"""The op as a convolution layer with the state dict of ``nn.Conv2d``."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmlk.ops import depthwise_conv2d
from mmlk.ops.checks import check_odd
from mmlk.registry import MODELS


@MODELS.register_module()
class LargeKernelConv2d(nn.Conv2d):
    """Depthwise convolution, stride 1, output the size of the input, computed by :func:`mmlk.ops.depthwise_conv2d`.

    The signature and the state dict (``weight`` (C, 1, R, S), ``bias`` (C,)) are those of ``nn.Conv2d``, so it can
    replace one and serves as ``conv_cfg=dict(type='mmlk.LargeKernelConv2d')``.

    Args:
        in_channels: Channels C.
        out_channels: Must equal ``in_channels``.
        kernel_size: R x S, odd edges.
        stride: Must be 1.
        padding: ``None``, ``'same'`` or exactly half the kernel, (R // 2, S // 2).
        dilation: Must be 1.
        groups: ``None`` or ``in_channels``.
        bias: Add an offset per channel.
        padding_mode: Must be ``'zeros'``.
        device: As in ``nn.Conv2d``.
        dtype: As in ``nn.Conv2d``.
        backend: Backend of the op; ``None`` takes the first that can run. Changes the speed, not the result.

    Raises:
        ValueError: A setting the op cannot do.

    Example:
        >>> layer = LargeKernelConv2d(8, 8, kernel_size=51)
        >>> layer(torch.ones(1, 8, 14, 14)).shape
        torch.Size([1, 8, 14, 14])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str | None = None,
        dilation: int | tuple[int, int] = 1,
        groups: int | None = None,
        bias: bool = True,
        padding_mode: str = 'zeros',
        device=None,
        dtype=None,
        *,
        backend: str | None = None,
    ) -> None:
        kernel_size = _pair(kernel_size)
        check_odd('kernel_size', kernel_size)
        same = tuple(edge // 2 for edge in kernel_size)
        required = {
            'out_channels': (out_channels, in_channels),
            'stride': (_pair(stride), (1, 1)),
            'padding': (same if padding in (None, 'same') else _pair(padding), same),
            'dilation': (_pair(dilation), (1, 1)),
            'groups': (in_channels if groups is None else groups, in_channels),
            'padding_mode': (padding_mode, 'zeros'),
        }
        for name, (given, expected) in required.items():
            if given != expected:
                raise ValueError(
                    f'{name} of a LargeKernelConv2d with {in_channels} channels and kernel {kernel_size} must be '
                    f'{expected}, got {given}; use nn.Conv2d for anything but a depthwise convolution of stride 1'
                )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            padding=same,
            groups=in_channels,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to the same shape."""
        return depthwise_conv2d(x, self.weight, self.bias, backend=self.backend)

"""The op as a convolution layer with the state dict of ``nn.Conv2d``."""

from __future__ import annotations

import reprlib

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmlk.ops import depthwise_conv2d
from mmlk.ops.checks import FLOAT_DTYPES, check_odd


class LargeKernelConv2d(nn.Conv2d):
    """Depthwise convolution, stride 1, output the size of the input, computed by :func:`mmlk.ops.depthwise_conv2d`.

    The signature and the state dict (``weight`` (C, 1, R, S), ``bias`` (C,)) are those of ``nn.Conv2d``, so it can
    replace one and serves as ``conv_cfg=dict(type='mmlk.LargeKernelConv2d')``. :func:`mmlk.accelerate` puts it into a
    model that exists.

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

    # Of the class too: a module that was pickled without it, or that became one of these, has it all the same.
    backend: str | None = None

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
        if len(kernel_size) != 2 or not all(type(edge) is int for edge in kernel_size):
            raise ValueError(f'kernel_size must be an integer or two, got {reprlib.repr(kernel_size)}')
        check_odd('kernel_size', kernel_size)
        padding = 'same' if padding is None else padding
        groups = in_channels if groups is None else groups
        for name, (given, expected) in find_unsupported(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode
        ).items():
            raise ValueError(
                f'{name} of a LargeKernelConv2d with {in_channels} channels and kernel {kernel_size} must be '
                f'{expected}, got {given}; use nn.Conv2d for anything but a depthwise convolution of stride 1'
            )
        if dtype is not None and dtype not in FLOAT_DTYPES:
            raise ValueError(f'dtype must be float16, bfloat16, float32 or float64, got {reprlib.repr(dtype)}')
        try:
            device = None if device is None else torch.device(device)
        except (TypeError, RuntimeError) as error:
            raise ValueError(
                f"device must be a torch.device or its name, such as 'cpu', got {reprlib.repr(device)}"
            ) from error
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            padding=half(kernel_size),
            groups=in_channels,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.backend = backend

    # Here and not in forward, so that code which brings its own weights (BatchNorm folded on the fly) gets the op too.
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve (N, C, H, W) or (C, H, W) to the same shape."""
        return _convolve(input, weight, bias, self.backend)

    def extra_repr(self) -> str:
        """As of ``nn.Conv2d``, and the backend where one is forced."""
        forced = '' if self.backend is None else f', backend={self.backend!r}'
        return super().extra_repr() + forced


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, backend: str | None) -> Tensor:
    if isinstance(x, Tensor) and x.dim() == 3:
        return depthwise_conv2d(x[None], weight, bias, backend=backend)[0]
    return depthwise_conv2d(x, weight, bias, backend=backend)


# torch.fx records a call of it and does not look inside, where shapes are checked.
torch.fx.wrap('_convolve')


def half(kernel_size: tuple[int, int]) -> tuple[int, int]:
    """Padding (R // 2, S // 2) that keeps the size of the input."""
    return kernel_size[0] // 2, kernel_size[1] // 2


def find_unsupported(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    stride: int | tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: int | tuple[int, int],
    groups: int,
    padding_mode: str,
) -> dict[str, tuple[object, object]]:
    """Settings of an ``nn.Conv2d`` with odd kernel edges that the op does not have: name -> (given, expected)."""
    same = half(kernel_size)
    if padding == 'same':
        padding = same
    settings = {
        'out_channels': (out_channels, in_channels),
        'stride': (_pair(stride), (1, 1)),
        'padding': (padding if isinstance(padding, str) else _pair(padding), same),
        'dilation': (_pair(dilation), (1, 1)),
        'groups': (groups, in_channels),
        'padding_mode': (padding_mode, 'zeros'),
    }
    return {name: (given, expected) for name, (given, expected) in settings.items() if given != expected}

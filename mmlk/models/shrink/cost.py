"""What a depthwise convolution is predicted to cost in inference, by the op's own models."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mmlk.ops.depthwise_conv2d import triton_tiles
from mmlk.ops.depthwise_conv2d.cpu import cost
from mmlk.ops.memory_format import output_format

#: What there is beside the convolutions on a CPU, in nanoseconds per pixel on two threads: channels that are gathered
#: and put back, in the contiguous layout and in channels_last (from whole networks, where odd numbers of channels are
#: slower too), and the sum of two maps; in milliseconds, a call of the op and a group of channels.
_CPU_MOVE, _CPU_MOVE_LAST, _CPU_ADD = 0.75, 2.0, 0.2
_CPU_CALL, _CPU_GROUP = 0.06, 0.04


class Site(NamedTuple):
    """Where a convolution runs.

    Attributes:
        n: Batch.
        h: Height of the map.
        w: Width of the map.
        dtype: Number format of the map.
        channels_last: The map is laid out so.
        device: ``'cpu'`` or ``'cuda'``.
    """

    n: int
    h: int
    w: int
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    device: str = 'cpu'

    @classmethod
    def of(cls, x: Tensor, device: str) -> Site:
        """Where ``x`` (N, C, H, W) is convolved; ``device`` because ``x`` may lie on the meta device."""
        return cls(x.shape[0], *x.shape[2:], x.dtype, output_format(x) == torch.channels_last, device)


def convolution_ms(site: Site, channels: int, kernel_sizes: tuple[tuple[int, int], ...]) -> float:
    """Milliseconds of the sum of several convolutions of ``channels`` channels."""
    if not kernel_sizes or not channels:
        return 0.0
    calls = _CPU_CALL * len(kernel_sizes) if site.device == 'cpu' else 0.0
    total = calls + sum(_single_ms(site, torch.get_num_threads(), channels, size) for size in kernel_sizes)
    return total + (len(kernel_sizes) - 1) * _pass_ms(site, channels, _CPU_ADD, copies=1.5)


def moving_ms(site: Site, channels: int) -> float:
    """Milliseconds to gather ``channels`` channels before a convolution and to put them back."""
    per_pixel = _CPU_MOVE_LAST if site.channels_last else _CPU_MOVE
    return _pass_ms(site, channels, per_pixel, copies=2) + (_CPU_GROUP if site.device == 'cpu' else 0.0)


def _pass_ms(site: Site, channels: int, per_pixel: float, copies: float) -> float:
    pixels = site.n * channels * site.h * site.w
    if site.device == 'cpu':
        width = 2 if site.dtype == torch.float64 else 1
        return per_pixel * width * pixels * 2 / max(1, torch.get_num_threads()) * 1e-6
    bytes_moved = 2 * copies * pixels * site.dtype.itemsize
    return 1e-3 * (bytes_moved / triton_tiles.MEMORY_RATE + copies * triton_tiles.LAUNCH)


@lru_cache(maxsize=1 << 16)
def _single_ms(site: Site, threads: int, channels: int, kernel_size: tuple[int, int]) -> float:
    # Taps that cannot touch the map are left out, as every backend does.
    r, s = (min(edge, 2 * size - 1) for edge, size in zip(kernel_size, (site.h, site.w), strict=True))
    if site.device == 'cpu':
        double = site.dtype == torch.float64
        call = cost.Call(site.n, channels, site.h, site.w, r, s, double, site.channels_last, max(1, threads))
        return min(cost.predict('forward', call).values())
    precision = '16' if site.dtype.itemsize == 2 else 'tf32x3'
    shape = triton_tiles.Shape(site.n, channels, site.h, site.w, r, s, precision)
    times = [triton_tiles.pytorch_time('forward', shape)]
    if site.dtype.itemsize <= 4:
        ours = min(triton_tiles.predicted_time('forward', each) for each in (shape, shape.swapped()))
        times.append(ours + triton_tiles.PYTHON_OVERHEAD)
    return 1e-3 * min(times)

"""Depthwise convolution on the CPU through ``torch.fft``; the cost does not depend on the kernel size.

A circular convolution of length L >= H + R // 2 per axis is enough for an output of the input's size: what wraps
around falls into the part that is cut off. Channels go through in chunks whose spectra stay in the cache, which also
bounds the extra memory. Everything is recomputed on every call: a spectrum kept from an earlier one could be of old
weights.

Sums run over whole planes, so the rounding error is relative to the plane's norm, not to each window's, and a NaN or an
infinity in one pixel reaches all pixels of its channel and image.

Dimensions: N batch, C channels, H W input, R S kernel, L length of a transform.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlk.ops.memory_format import empty_output

#: Bytes of zero-padded planes (N, chunk, L, L) transformed at a time. Measured best between 0.5 and 2 MiB per core on
#: Xeons with 2 MiB of L2 per core; spectra and products make the peak about four times this.
CHUNK_BYTES = 2**20

#: Dtypes that torch.fft transforms on the CPU; the others are computed in float32.
FFT_DTYPES = (torch.float32, torch.float64)


def fft_length(size: int) -> int:
    """The fastest length of at least ``size``: a multiple of 16 (or 24, 72, 120) without prime factors above 5.

    MKL's real transforms of such lengths cost 1.0 to 1.3 ns per pixel there and back, of other even 5-smooth lengths
    1.6 to 2.8 (measured from 8 to 256, two cores).
    """
    for special in (24, 72, 120):
        if special - 8 < size <= special:
            return special
    length = -(-size // 16) * 16
    while not _is_smooth(length):
        length += 16
    return length


def transform_shape(height: int, width: int, kernel_height: int, kernel_width: int) -> tuple[int, int]:
    """Lengths of the two axes for an input H x W and a kernel R x S."""
    return fft_length(height + kernel_height // 2), fft_length(width + kernel_width // 2)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Correlation with the kernel, as the reference."""
    # Correlating is convolving with the kernel turned by 180 degrees.
    return _convolve(x, weight.flip(2, 3), bias)


def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Convolution of the gradient with the kernel."""
    return _convolve(grad_output, weight, None)


def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Correlation of ``x`` with the gradient at the offsets of the kernel, summed over the batch."""
    return _gradients(grad_output, x, weight, needs_input=False)[1]


def backward(grad_output: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both gradients from one transform of ``grad_output``."""
    return _gradients(grad_output, x, weight, needs_input=True)


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    n, c, h, w = x.shape
    r, s = kernel.shape[2:]
    lengths = transform_shape(h, w, r, s)
    out = empty_output(x)
    for channels, images in chunks(n, c, lengths):
        spectrum = _spectrum(kernel[channels, 0], lengths)
        for batch in images:
            product = _spectrum(x[batch, channels], lengths).mul_(spectrum)
            plane = torch.fft.irfft2(product, lengths)[..., r // 2 : r // 2 + h, s // 2 : s // 2 + w]
            out[batch, channels] = plane if bias is None else plane.add_(bias[channels, None, None])
    return out


def _gradients(grad_output: Tensor, x: Tensor, weight: Tensor, needs_input: bool) -> tuple[Tensor | None, Tensor]:
    n, c, h, w = x.shape
    r, s = weight.shape[2:]
    lengths = transform_shape(h, w, r, s)
    out_input = empty_output(x) if needs_input else None
    out_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    for channels, images in chunks(n, c, lengths):
        kernel = _spectrum(weight[channels, 0], lengths) if needs_input else None
        total = 0
        for batch in images:
            grad = _spectrum(grad_output[batch, channels], lengths)
            total = total + _spectrum(x[batch, channels], lengths).mul_(grad.conj()).sum(0)
            if needs_input:
                plane = torch.fft.irfft2(grad.mul_(kernel), lengths)
                out_input[batch, channels] = plane[..., r // 2 : r // 2 + h, s // 2 : s // 2 + w]
        # Offset 0 of the correlation is the central tap; negative offsets are at the end of the circle.
        taps = torch.fft.irfft2(total, lengths)
        out_weight[channels, 0] = taps.roll((r // 2, s // 2), (1, 2))[:, :r, :s]
    return out_input, out_weight


def _spectrum(planes: Tensor, lengths: tuple[int, int]) -> Tensor:
    if planes.dtype not in FFT_DTYPES:
        planes = planes.float()
    h, w = planes.shape[-2:]
    # Padding here copies any strides once; rfft2(s=...) would pad as well.
    return torch.fft.rfft2(F.pad(planes, (0, lengths[1] - w, 0, lengths[0] - h)))


def chunks(n: int, c: int, lengths: tuple[int, int]):
    """Slices of the C channels, each with the slices of the batch to go through."""
    budget = max(1, CHUNK_BYTES // (lengths[0] * lengths[1] * 4))
    batch = max(1, min(n, budget))
    channels = max(1, budget // batch)
    images = [slice(start, min(start + batch, n)) for start in range(0, n, batch)]
    for start in range(0, c, channels):
        yield slice(start, min(start + channels, c)), images


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1

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

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlk.ops.memory_format import empty_output

#: Bytes of zero-padded planes (N, chunk, L, L) transformed at a time. Measured best between 0.5 and 4 MiB on two cores
#: of a Xeon with 2 MiB of L2 each; spectra and products make the peak about four times this.
CHUNK_BYTES = 2**21

#: Dtypes that torch.fft transforms on the CPU; the others are computed in float32.
FFT_DTYPES = (torch.float32, torch.float64)


def fft_length(size: int, special: tuple[int, ...] = (24, 72, 112, 120)) -> int:
    """The fastest length of at least ``size``: a multiple of 16 without prime factors above 5, or a special one.

    MKL's real transforms of such lengths cost 1.0 to 1.3 ns per pixel there and back, of other even 5-smooth lengths
    1.6 to 2.8 (measured from 8 to 256, two cores).
    """
    length = -(-size // 16) * 16
    while not _is_smooth(length):
        length += 16
    return min([length, *(candidate for candidate in special if candidate >= size)])


def transform_shape(height: int, width: int, kernel_height: int, kernel_width: int) -> tuple[int, int]:
    """Lengths of the two axes for an input H x W and a kernel R x S."""
    # Along the columns the transform is complex, and fast at more lengths.
    return fft_length(height + kernel_height // 2, (24, 60, 72, 112, 120, 180)), fft_length(width + kernel_width // 2)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Correlation with the kernel, as the reference."""
    # Correlating is convolving with the kernel turned by 180 degrees.
    kernels = weight[:, 0].flip(1, 2)
    lengths = transform_shape(*x.shape[2:], *weight.shape[2:])
    return convolve(x, lambda channels: _spectrum(kernels[channels], lengths), weight.shape[2:], bias)


def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Convolution of the gradient with the kernel."""
    lengths = transform_shape(*x.shape[2:], *weight.shape[2:])
    return convolve(grad_output, lambda channels: _spectrum(weight[channels, 0], lengths), weight.shape[2:], None)


def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Correlation of ``x`` with the gradient at the offsets of the kernel, summed over the batch."""
    return _gradients(grad_output, x, weight, needs_input=False)[1]


def backward(grad_output: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both gradients from one transform of ``grad_output``."""
    return _gradients(grad_output, x, weight, needs_input=True)


def convolve(x: Tensor, kernel: Callable[[slice], Tensor], kernel_size: tuple[int, int], bias: Tensor | None) -> Tensor:
    """Convolve every channel with its kernel, given by spectra.

    Args:
        x: Input (N, C, H, W).
        kernel: Returns the spectra (c, L, L // 2 + 1) of the kernels of a slice of channels, for transforms of
            :func:`transform_shape`.
        kernel_size: R x S.
        bias: Offsets (C,).

    Returns:
        Tensor (N, C, H, W), dtype and memory format of ``x``.
    """
    h, w = x.shape[2:]
    lengths = transform_shape(h, w, *kernel_size)
    corner = kernel_size[0] // 2, kernel_size[1] // 2
    out = empty_output(x)
    transform = _Transform(x, lengths)
    for channels, images in chunks(*x.shape[:2], lengths):
        spectrum = kernel(channels)
        for batch in images:
            plane = _planes(transform(x[batch, channels]).mul_(spectrum), lengths, corner, (h, w))
            out[batch, channels] = plane if bias is None else plane.add_(bias[channels, None, None])
    return out


def differentiate(
    grad_output: Tensor,
    x: Tensor,
    kernel: Callable[[slice], Tensor] | None,
    kernel_size: tuple[int, int],
    collect: Callable[[slice, Tensor], None],
) -> Tensor | None:
    """Gradients of the correlation of ``x`` with kernels.

    Args:
        grad_output: Gradient (N, C, H, W) of the output.
        x: Input (N, C, H, W).
        kernel: As of :func:`convolve`, or ``None`` where the gradient of the input is not needed.
        kernel_size: R x S.
        collect: Takes a slice of channels and the spectra (c, L, L // 2 + 1) of their kernels' gradient, whose central
            tap is at offset 0 and negative offsets at the end of the circle.

    Returns:
        Gradient (N, C, H, W) of ``x``, or ``None``.
    """
    h, w = x.shape[2:]
    lengths = transform_shape(h, w, *kernel_size)
    corner = kernel_size[0] // 2, kernel_size[1] // 2
    out = None if kernel is None else empty_output(x)
    transform = _Transform(x, lengths)
    for channels, images in chunks(*x.shape[:2], lengths):
        spectrum = None if kernel is None else kernel(channels)
        total = None
        for batch in images:
            grad = transform(grad_output[batch, channels])
            # Conjugated in place and back in the sum: PyTorch resolves a lazy conjugate by a copy.
            part = transform(x[batch, channels]).conj_physical_().mul_(grad).sum(0)
            total = part if total is None else total.add_(part)
            if out is not None:
                out[batch, channels] = _planes(grad.mul_(spectrum), lengths, corner, (h, w))
        collect(channels, total.conj_physical_())
    return out


def _gradients(grad_output: Tensor, x: Tensor, weight: Tensor, needs_input: bool) -> tuple[Tensor | None, Tensor]:
    r, s = weight.shape[2:]
    lengths = transform_shape(*x.shape[2:], r, s)
    out = torch.empty_like(weight, memory_format=torch.contiguous_format)

    def kernel(channels: slice) -> Tensor:
        return _spectrum(weight[channels, 0], lengths)

    def collect(channels: slice, total: Tensor) -> None:
        # Offsets below zero are at the end of the circle; only rows of the kernel are transformed back.
        half = torch.fft.ifft(total, dim=1)
        rows = torch.fft.irfft(torch.cat((half[:, lengths[0] - r // 2 :], half[:, : r - r // 2]), 1), lengths[1])
        out[channels, 0] = torch.cat((rows[..., lengths[1] - s // 2 :], rows[..., : s - s // 2]), 2)

    return differentiate(grad_output, x, kernel if needs_input else None, (r, s), collect), out


class _Transform:
    """Spectra of slices of a map. The zeros around them are written once: a transform leaves its input as it is.

    Args:
        x: Map whose slices are transformed.
        lengths: Of the transform.
    """

    def __init__(self, x: Tensor, lengths: tuple[int, int]) -> None:
        dtype = x.dtype if x.dtype in FFT_DTYPES else torch.float32
        count = min(x.shape[0] * x.shape[1], _planes_per_chunk(lengths))
        self.padded = x.new_zeros((count, *lengths), dtype=dtype)

    def __call__(self, planes: Tensor) -> Tensor:
        """Spectra (n, c, L, L // 2 + 1) of planes (n, c, H, W)."""
        n, c, h, w = planes.shape
        padded = self.padded[: n * c].unflatten(0, (n, c))
        padded[..., :h, :w] = planes
        return torch.fft.rfft2(padded)


def _spectrum(planes: Tensor, lengths: tuple[int, int]) -> Tensor:
    if planes.dtype not in FFT_DTYPES:
        planes = planes.float()
    h, w = planes.shape[-2:]
    # Padding here copies any strides once; rfft2(s=...) would pad as well.
    return torch.fft.rfft2(F.pad(planes, (0, lengths[1] - w, 0, lengths[0] - h)))


def _planes(spectrum: Tensor, lengths: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    # Axis by axis, so that the rows that are cut off are not transformed back.
    half = torch.fft.ifft(spectrum, dim=-2)[..., corner[0] : corner[0] + size[0], :]
    return torch.fft.irfft(half, lengths[1])[..., corner[1] : corner[1] + size[1]]


def chunks(n: int, c: int, lengths: tuple[int, int]):
    """Slices of the C channels, each with the slices of the batch to go through."""
    budget = _planes_per_chunk(lengths)
    batch = max(1, min(n, budget))
    # An even number, so that two cores get as much each.
    channels = max(1, budget // batch // 2 * 2)
    images = [slice(start, min(start + batch, n)) for start in range(0, n, batch)]
    for start in range(0, c, channels):
        yield slice(start, min(start + channels, c)), images


def _planes_per_chunk(lengths: tuple[int, int]) -> int:
    return max(1, CHUNK_BYTES // (lengths[0] * lengths[1] * 4))


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1

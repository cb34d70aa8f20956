"""Depthwise convolution on the CPU through PyTorch's own convolution (oneDNN), in the layouts in which it is fast.

What oneDNN 3.10 does with a depthwise convolution, and what is made of it:

* In channels_last, forward without autograd skips the padding and is fast at every kernel size. In the contiguous
  layout it is fast up to 13 taps a row (with AVX-512; 9 with AVX2), and 10 to 200 times slower above.
* The gradient of the input is the forward pass with the kernel turned by 180 degrees, at its speed in either layout.
* The gradient of the weight is fast up to 3 taps a row only. But it too is a forward pass: every plane of ``x`` with
  the plane of ``grad_output`` as its kernel, as N * C channels of one image.

Channels are independent, so tensors are converted to channels_last a chunk of channels at a time, within the cache.

Dimensions: N batch, C channels, H W input, R S kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlk.ops.memory_format import empty_output, output_format, plain_kernel

#: Bytes of one operand convolved at a time, and in channels_last forward; measured best between 0.5 and 4 MiB on Xeons
#: with 2 MiB of L2 per core.
CHUNK_BYTES = 2**20
FORWARD_CHUNK_BYTES = 2**21

#: A map up to this size is converted as a whole: a second call costs more than the faster conversion gains.
SMALL_BYTES = 2**20

#: A contiguous map is convolved as a whole up to this size. oneDNN reorders it into buffers of its own; beyond 32 MiB
#: the allocator maps them anew on every call, which took longer than the convolution.
WHOLE_BYTES = 2**25

#: Largest kernel edge and plane (pixels) for which :class:`ChannelsLast` computes the gradient of the weight. For a
#: 101 x 101 kernel on 128 x 128 pixels oneDNN took 30 seconds and 40 GB.
GRADIENT_LIMITS = (33, 128 * 128)

#: Channels of a chunk are a multiple of this: one AVX-512 register of float32.
VECTOR = 16


class Contiguous:
    """The convolution in the contiguous layout."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Correlation with the kernel, as the reference."""
        weight = plain_kernel(weight)
        if x.is_contiguous() and x.dtype == _compute_dtype(x) and x.numel() * 4 <= WHOLE_BYTES:
            return F.conv2d(x, weight, bias, padding=_padding(weight), groups=x.shape[1])
        return _in_chunks(x, weight, bias, torch.contiguous_format)

    @staticmethod
    def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Convolution of the gradient with the kernel."""
        return Contiguous.forward(grad_output, weight.flip(2, 3), None)

    @staticmethod
    def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """PyTorch's own gradient."""
        dtype = _compute_dtype(x)
        return torch.nn.grad.conv2d_weight(
            x.to(dtype).contiguous(),
            weight.shape,
            grad_output.to(dtype).contiguous(),
            padding=_padding(weight),
            groups=x.shape[1],
        ).to(weight.dtype)


class ChannelsLast:
    """The forward convolution in channels_last, for all three passes."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Correlation with the kernel, as the reference."""
        if output_format(x) == torch.channels_last and x.dtype == _compute_dtype(x):
            return F.conv2d(x, weight, bias, padding=_padding(weight), groups=x.shape[1])
        return _in_chunks(x, weight, bias, torch.channels_last)

    @staticmethod
    def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Convolution of the gradient with the kernel."""
        return ChannelsLast.forward(grad_output, weight.flip(2, 3), None)

    @staticmethod
    def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Correlation of every plane of ``x`` with the gradient's, then summed over the batch.

        Meant for kernels and planes within :data:`GRADIENT_LIMITS`.
        """
        h, w = x.shape[2:]
        r, s = weight.shape[2:]
        dtype = _compute_dtype(x)
        out = torch.zeros_like(weight, memory_format=torch.contiguous_format, dtype=dtype)
        for batch, channels in _chunks(x, torch.channels_last, back=False):
            planes = x[batch, channels].reshape(1, -1, h, w).to(dtype)
            kernels = grad_output[batch, channels].reshape(-1, 1, h, w).to(dtype).contiguous()
            taps = F.conv2d(
                planes.contiguous(memory_format=torch.channels_last),
                kernels,
                padding=_padding(weight),
                groups=len(kernels),
            )
            out[channels, 0] += taps.view(-1, out[channels].shape[0], r, s).sum(0)
        return out.to(weight.dtype)


def _in_chunks(x: Tensor, weight: Tensor, bias: Tensor | None, layout: torch.memory_format) -> Tensor:
    dtype = _compute_dtype(x)
    out = empty_output(x)
    for batch, channels in _chunks(x, layout):
        kernels = weight[channels].to(dtype)
        out[batch, channels] = F.conv2d(
            x[batch, channels].to(dtype, memory_format=layout),
            kernels,
            None if bias is None else bias[channels].to(dtype),
            padding=_padding(weight),
            groups=len(kernels),
        )
    return out


def _chunks(x: Tensor, layout: torch.memory_format, back: bool = True) -> Iterator[tuple[slice, slice]]:
    """Slices of batch and channels whose planes fit into the cache.

    In channels_last the channels of a slice are an odd number of cache lines where the output is converted ``back``:
    its planes are then read at a stride that visits every set of the cache. At a stride of a power of two few sets hold
    the whole plane, and reading took 2.5 times as long (1.0 instead of 0.4 ns per pixel for 128 and 112 channels of
    32 x 32). From three lines on a slice is worth its call, so rather fewer images than fewer channels; what is within
    :data:`SMALL_BYTES` is not worth a second one.
    """
    n, c, h, w = x.shape
    forward = layout == torch.channels_last and back
    planes = max(1, (FORWARD_CHUNK_BYTES if forward else CHUNK_BYTES) // (h * w * 4))
    vectors = -(-c // VECTOR)
    if layout == torch.contiguous_format:
        # Whole images first: a slice of the batch, or of the channels of one image, needs no copy.
        images, sizes = max(1, min(n, planes // c)), [planes] * -(-c // planes)
    elif forward and 4 * x.numel() <= SMALL_BYTES:
        images, sizes = n, [c]
    elif forward:
        images = max(1, min(n, planes // (min(vectors, 3) * VECTOR)))
        sizes = [VECTOR * part for part in _odd_parts(vectors, planes // images // VECTOR)]
    else:
        images = max(1, min(n, planes // VECTOR))
        most = max(1, planes // images // VECTOR)
        sizes = [VECTOR * most] * -(-vectors // most)
    start = 0
    for size in sizes:
        for j in range(0, n, images):
            yield slice(j, min(j + images, n)), slice(start, min(start + size, c))
        start += size


def _odd_parts(total: int, largest: int) -> list[int]:
    """The fewest odd numbers of about the same size, none above ``largest`` (1 at least), that add up to ``total``."""
    largest = max(1, largest - 1 + largest % 2)
    count = -(-total // largest)
    # As many odd numbers as that add up to an odd or even total.
    count += (total - count) % 2
    pairs, more = divmod((total - count) // 2, count)
    return [1 + 2 * (pairs + (index < more)) for index in range(count)]


def _compute_dtype(x: Tensor) -> torch.dtype:
    # oneDNN computes depthwise convolutions of 16-bit types no faster, and may never return (see the reference).
    return x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2

"""Predicted times of the algorithms of the ``cpu`` backend.

Each prediction is a sum of counts (transformed pixels, multiply-adds, moved pixels, chunks) times coefficients fitted
to measurements of 170 shapes on two cores of a Xeon with AVX-512 and AMX, torch 2.11: most are within 15 %, nine of ten
within 30 %. What matters is their order, and that the same call takes the same algorithm in every run: timing the
candidates at the first call would not repeat, and two runs would differ in the last bit.

Dimensions: N batch, C channels, H W input, R S kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch

from mmlk.ops.depthwise_conv2d.cpu import fft, onednn


@dataclass(frozen=True)
class Call:
    """What the time of a call depends on.

    Attributes:
        n: Batch.
        c: Channels.
        h: Height of the map.
        w: Width of the map.
        r: Height of the kernel.
        s: Width of the kernel.
        double: Computed in float64 (everything else is in float32).
        channels_last: The map is laid out so.
        threads: Threads of PyTorch.
    """

    n: int
    c: int
    h: int
    w: int
    r: int
    s: int
    double: bool = False
    channels_last: bool = False
    threads: int = 2

    @classmethod
    def of(cls, x: torch.Tensor, weight: torch.Tensor, channels_last: bool) -> Call:
        """The call ``depthwise_conv2d(x, weight)``."""
        return cls(
            *x.shape, *weight.shape[2:], x.dtype == torch.float64, channels_last, max(1, torch.get_num_threads())
        )


def predict(pass_name: str, call: Call) -> dict[str, float]:
    """Milliseconds per algorithm for 'forward', 'grad_input', 'grad_weight' or 'backward' (both gradients)."""
    if pass_name == 'backward':
        separate = [min(predict(name, call).values()) for name in ('grad_input', 'grad_weight')]
        return {'separate': sum(separate), 'fft': _fft_time('backward', call)}
    # The gradient of the input is a forward pass with another kernel.
    pass_name = 'forward' if pass_name == 'grad_input' else pass_name
    return {
        'contiguous': _contiguous_time(pass_name, call),
        'channels_last': _channels_last_time(pass_name, call),
        'fft': _fft_time(pass_name, call),
    }


def _fft_time(pass_name: str, call: Call) -> float:
    height, width = fft.transform_shape(call.h, call.w, call.r, call.s)
    images, kernels = {'forward': (2, 1), 'grad_weight': (2, 1), 'backward': (3, 2)}[pass_name]
    chunks = sum(1 for _, batches in fft.chunks(call.n, call.c, (height, width)) for _ in batches)
    pixels, chunk, moved, fixed = _FFT[_layout(call)][pass_name]
    transformed = (images * call.n + kernels) * call.c * height * width
    return _total(call, pixels * transformed + moved * _pixels(call), chunk * chunks, fixed)


def _channels_last_time(pass_name: str, call: Call) -> float:
    edge, plane = onednn.GRADIENT_LIMITS
    if call.double:
        return math.inf
    if pass_name == 'grad_weight' and (max(call.r, call.s) > edge or call.h * call.w > plane):
        return math.inf
    multiply_adds, pixels, taps = _CHANNELS_LAST[_layout(call)][pass_name]
    if pass_name == 'forward' and call.s == 13:
        # oneDNN takes the slower of its kernels here.
        multiply_adds *= 2.4
    channels = -(-call.c // onednn.VECTOR) * onednn.VECTOR
    work = call.n * channels * _inside(call.h, call.r) * _inside(call.w, call.s)
    kernels = call.c * call.r * call.s * (1 if pass_name == 'forward' else call.n)
    return _total(call, multiply_adds * work + pixels * _pixels(call) + taps * kernels, 0, 0.08)


def _contiguous_time(pass_name: str, call: Call) -> float:
    fast = call.s <= (_fast_taps() if pass_name == 'forward' else 3)
    multiply_adds, pixels, large, taps = _CONTIGUOUS[_layout(call)][pass_name][0 if fast else 1]
    if 4 * _pixels(call) > onednn.WHOLE_BYTES:
        pixels += large
    work = multiply_adds * _pixels(call) * call.r * call.s
    return _total(call, work + pixels * _pixels(call) + taps * call.c * call.r * call.s, 0, 0.02 if fast else 0.3)


def _total(call: Call, work: float, chunks: float, fixed: float) -> float:
    # ``work`` in nanoseconds of two threads; chunks run one after the other, each on all threads.
    scale = _FITTED_THREADS / call.threads
    return work * scale * 1e-6 + chunks * scale + fixed


def _pixels(call: Call) -> int:
    return call.n * call.c * call.h * call.w


def _inside(size: int, taps: int) -> int:
    """Pairs of an output and a tap along one axis for which the tap is inside the map."""
    half = taps // 2
    return sum(min(taps, half + size - i) - max(0, half - i) for i in range(size))


def _layout(call: Call) -> str:
    if call.double:
        return 'float64'
    return 'channels_last' if call.channels_last else 'contiguous'


@cache
def _fast_taps() -> int:
    """Taps a row for which oneDNN's contiguous convolution is fast: its left padding must fit into a register block."""
    return 13 if torch.backends.cpu.get_cpu_capability() == 'AVX512' else 9


_FITTED_THREADS = 2

# Coefficients, in nanoseconds per count on two threads unless noted.

#: Per transformed pixel, per chunk (ms), per pixel of the map, per call (ms).
_FFT = {
    'contiguous': {
        'forward': (0.56, 0.37, 0.48, 0.1),
        'grad_weight': (0.86, 0.16, 0.08, 0.15),
        'backward': (0.85, 0.37, 0.47, 0.2),
    },
    'channels_last': {
        'forward': (0.98, 0.16, 0.91, 0.15),
        'grad_weight': (1.47, 0.0, 0.54, 0.2),
        'backward': (1.29, 0.11, 1.47, 0.2),
    },
    'float64': {
        'forward': (1.09, 0.36, 0.71, 0.1),
        'grad_weight': (1.87, 0.05, 0.68, 0.1),
        'backward': (1.86, 0.18, 1.21, 0.1),
    },
}

#: Per multiply-add inside the map, per pixel, per tap.
_CHANNELS_LAST = {
    'contiguous': {'forward': (0.0098, 0.91, 1.36), 'grad_weight': (0.027, 1.4, 1.10)},
    'channels_last': {'forward': (0.0106, 0.03, 0.79), 'grad_weight': (0.029, 2.4, 1.26)},
}

#: Per multiply-add, per pixel, per pixel of large maps in addition, per tap; with few taps a row, and with many.
_CONTIGUOUS = {
    'contiguous': {
        'forward': ((0.0070, 0.51, 0.90, 0.16), (0.264, 0.0, 0.90, 0.0)),
        'grad_weight': ((0.062, 0.0, 1.40, 0.0), (0.313, 1.92, 0.0, 4.7)),
    },
    'channels_last': {
        'forward': ((0.0068, 1.86, 1.85, 0.17), (0.267, 2.30, 1.85, 0.0)),
        'grad_weight': ((0.230, 0.0, 7.60, 0.0), (0.301, 5.13, 0.0, 5.0)),
    },
    'float64': {
        'forward': ((0.156, 1.04, 0.0, 111.0), (0.203, 10.4, 0.0, 90.0)),
        'grad_weight': ((0.587, 0.0, 0.0, 939.0), (0.229, 3.08, 0.0, 165.0)),
    },
}

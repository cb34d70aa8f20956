"""The ``cpu`` backend: for every pass the algorithm with the lowest predicted time.

Taps that cannot touch the map are left out first: of a kernel larger than 2 H - 1 rows or 2 W - 1 columns only the
middle takes part, and the gradient of the rest is zero.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlk.ops.depthwise_conv2d.cpu import cost, fft
from mmlk.ops.depthwise_conv2d.cpu.onednn import GRADIENT_LIMITS, ChannelsLast, Contiguous
from mmlk.ops.memory_format import empty_output, output_format

#: In alphabetical order; each has the three passes with the signatures of the reference.
ALGORITHMS = {'channels_last': ChannelsLast, 'contiguous': Contiguous, 'fft': fft}


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, *, algorithm: str | None = None) -> Tensor:
    """y[n,c,p,q] = b[c] + sum_{r,s} w[c,0,r,s] * x[n,c,p+r-R//2,q+s-S//2]; ``algorithm`` overrides the choice."""
    if not x.numel():
        return empty_output(x)
    weight = _within_reach(weight, x)
    return ALGORITHMS[algorithm or fastest('forward', x, weight)].forward(x, weight, bias)


def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor, *, algorithm: str | None = None) -> Tensor:
    """Gradient (N, C, H, W) of the input."""
    if not x.numel():
        return empty_output(x)
    weight = _within_reach(weight, x)
    algorithm = algorithm or fastest('grad_input', grad_output, weight)
    return ALGORITHMS[algorithm].grad_input(grad_output, x, weight)


def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor, *, algorithm: str | None = None) -> Tensor:
    """Gradient (C, 1, R, S) of the kernels, summed over batch and positions."""
    if not x.numel():
        return torch.zeros_like(weight, memory_format=torch.contiguous_format)
    near = _within_reach(weight, x)
    algorithm = algorithm or fastest('grad_weight', x, near)
    return _pad_to(ALGORITHMS[algorithm].grad_weight(grad_output, x, near), weight)


def backward(grad_output: Tensor, x: Tensor, weight: Tensor, *, algorithm: str | None = None) -> tuple[Tensor, Tensor]:
    """Both gradients; with ``'fft'`` from one transform of ``grad_output``."""
    if not x.numel() or (algorithm or fastest('backward', x, _within_reach(weight, x))) != 'fft':
        return grad_input(grad_output, x, weight), grad_weight(grad_output, x, weight)
    grad_x, grad_w = fft.backward(grad_output, x, _within_reach(weight, x))
    return grad_x, _pad_to(grad_w, weight)


def why_not(x: Tensor, weight: Tensor) -> str | None:
    """The backend runs every valid call on the CPU."""
    return None if x.device.type == 'cpu' else f'it computes on the CPU, and x is on {x.device}'


def why_rather_not(x: Tensor, weight: Tensor) -> str | None:
    """Where PyTorch's own convolution would be taken in every pass, it is called directly."""
    if not x.numel():
        return 'there is nothing to compute'
    if output_format(x) == torch.channels_last or x.dtype not in (torch.float32, torch.float64):
        return None
    weight = _within_reach(weight, x)
    if all(fastest(name, x, weight) == 'contiguous' for name in ('forward', 'grad_input', 'grad_weight')):
        return 'F.conv2d is as fast in all three passes'
    return None


def why_not_algorithm(algorithm: str, pass_name: str, x: Tensor, weight: Tensor) -> str | None:
    """Reason why one algorithm of the backend cannot run a pass, or ``None``."""
    edge, plane = GRADIENT_LIMITS
    weight = _within_reach(weight, x)
    beyond = max(weight.shape[2:]) > edge or x.shape[2] * x.shape[3] > plane
    if algorithm == 'channels_last' and pass_name == 'grad_weight' and beyond:
        return f'its weight gradient takes kernels up to {edge} x {edge} on maps of up to {plane} pixels'
    return why_not(x, weight)


def describe(pass_name: str, x: Tensor, weight: Tensor) -> str:
    """The algorithm and the predicted times, such as 'fft, predicted 3.2 ms (channels_last 5.9 ms, ...)'."""
    if not x.numel():
        return 'nothing to compute'
    times = _times(pass_name, x, _within_reach(weight, x))
    (name, best), *others = sorted(times.items(), key=lambda item: item[1])
    return f'{name}, predicted {best:.2g} ms ({", ".join(f"{other} {ms:.2g} ms" for other, ms in others)})'


def fastest(pass_name: str, x: Tensor, weight: Tensor) -> str:
    """Name of the algorithm with the lowest predicted time; of ``weight`` only the shape matters.

    Args:
        pass_name: 'forward', 'grad_input', 'grad_weight', or 'backward' for both gradients, which answers 'fft' or
            'separate'.
        x: Input (N, C, H, W).
        weight: Kernels (C, 1, R, S).
    """
    times = _times(pass_name, x, _within_reach(weight, x))
    return min(times, key=times.get)


def _times(pass_name: str, x: Tensor, weight: Tensor) -> dict[str, float]:
    return _predict(pass_name, cost.Call.of(x, weight, output_format(x) == torch.channels_last))


_predict = lru_cache(maxsize=4096)(cost.predict)


def _within_reach(weight: Tensor, x: Tensor) -> Tensor:
    for dim in (2, 3):
        unused = max(0, weight.shape[dim] // 2 - (x.shape[dim] - 1))
        if unused:
            weight = weight.narrow(dim, unused, weight.shape[dim] - 2 * unused)
    return weight


def _pad_to(grad: Tensor, weight: Tensor) -> Tensor:
    if grad.shape == weight.shape:
        return grad
    rows, columns = ((weight.shape[dim] - grad.shape[dim]) // 2 for dim in (2, 3))
    return F.pad(grad, (columns, columns, rows, rows))

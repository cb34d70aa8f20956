"""The definition of the op, in PyTorch's own convolution.

Dimensions: N batch, C channels, H W input, R S kernel. Every backend has the same three functions and is tested against
these in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlk.ops.memory_format import plain_kernel


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y[n,c,p,q] = b[c] + sum_{r,s} w[c,0,r,s] * x[n,c,p+r-R//2,q+s-S//2], zeros outside the map."""
    if not x.shape[1]:
        # F.conv2d refuses 0 groups. Nothing is added to nothing, so that gradients are there.
        return x + weight.sum() + (0 if bias is None else bias.sum())
    weight = plain_kernel(weight)
    if _computes_in_float32(x):
        return F.conv2d(
            x.float(),
            weight.float(),
            None if bias is None else bias.float(),
            padding=_padding(weight),
            groups=x.shape[1],
        ).to(x.dtype)
    return F.conv2d(x, weight, bias, padding=_padding(weight), groups=x.shape[1])


def grad_input(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient (N, C, H, W) of the input: the correlation of ``grad_output`` with the kernel turned by 180 degrees."""
    if not x.shape[1]:
        return torch.empty_like(grad_output)
    kernel, grad = (weight.float(), grad_output.float()) if _computes_in_float32(x) else (weight, grad_output)
    grad = torch.nn.grad.conv2d_input(x.shape, kernel, grad, padding=_padding(weight), groups=x.shape[1])
    return grad.to(x.dtype)


def grad_weight(grad_output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient (C, 1, R, S) of the kernels, summed over batch and positions."""
    if not x.shape[1]:
        return torch.empty_like(weight)
    source, grad = (x.float(), grad_output.float()) if _computes_in_float32(x) else (x, grad_output)
    grad = torch.nn.grad.conv2d_weight(source, weight.shape, grad, padding=_padding(weight), groups=x.shape[1])
    return grad.to(weight.dtype)


def why_not(x: Tensor, weight: Tensor) -> str | None:
    """The reference runs every valid call."""
    return None


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


def _computes_in_float32(x: Tensor) -> bool:
    # Seen with torch 2.11 (oneDNN 3.10) on CPUs with AMX: F.conv2d never returns for some depthwise shapes of 16-bit
    # types, such as float16 x (3, 2, 7, 64) and, in channels_last, bfloat16 x (3, 16, 7, 100), with a 3 x 21 kernel.
    return x.device.type == 'cpu' and x.dtype in (torch.float16, torch.bfloat16)

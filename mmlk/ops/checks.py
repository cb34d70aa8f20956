"""Argument checks shared by the ops. One sentence per mistake: what was expected and what arrived."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.masked import MaskedTensor
from torch.nn.parameter import Parameter, UninitializedTensorMixin

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

#: Edge of a kernel that may be spread from few parameters, in taps: 4 GiB per channel in float32. What an argument of a
#: few bytes makes the machine allocate has to have an end.
MAX_EXPANDED = 2**15 - 1


def check_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check the arguments of a depthwise convolution with stride 1 and "same" zero padding.

    Raises:
        TypeError: Something is not a dense floating-point tensor, or dtypes differ.
        ValueError: A shape or a device does not fit, or R or S is even.
        RuntimeError: A tensor of inference mode would have to be kept for a gradient.
    """
    tensors = {'x': x, 'weight': weight} | ({} if bias is None else {'bias': bias})
    for name, tensor in tensors.items():
        check_tensor(name, tensor)
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOAT_DTYPES:
            raise TypeError(f'{name} must be float16, bfloat16, float32 or float64, got {tensor.dtype}')
        if tensor.dtype != x.dtype:
            raise TypeError(f'{name} must have the dtype of x ({x.dtype}), got {tensor.dtype}')
        if tensor.device != x.device:
            raise ValueError(f'{name} must be on the device of x ({x.device}), got {tensor.device}')
    if x.dim() != 4:
        raise ValueError(f'x must have shape (N, C, H, W), got {tuple(x.shape)}')
    if x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(f'x must be at least 1 x 1 pixels, got shape {tuple(x.shape)}')
    if weight.dim() != 4 or weight.shape[1] != 1:
        raise ValueError(f'weight must have shape (C, 1, R, S), one kernel per channel, got {tuple(weight.shape)}')
    if weight.shape[0] != x.shape[1]:
        raise ValueError(f'weight must have one kernel per channel of x ({x.shape[1]}), got {weight.shape[0]} kernels')
    check_odd('the kernel of weight', tuple(weight.shape[2:]))
    if bias is not None and bias.shape != (x.shape[1],):
        raise ValueError(f'bias must have shape ({x.shape[1]},), got {tuple(bias.shape)}')
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        # A convolution keeps each of the two for the gradient of the other.
        for name, tensor, other in (('x', x, weight), ('weight', weight, x)):
            if tensor.is_inference() and other.requires_grad:
                raise RuntimeError(
                    f'{name} was made in inference mode and cannot be kept for a gradient: give {name}.clone(), or '
                    'make it with torch.no_grad() instead'
                )


def check_peripheral_conv2d(
    x: Tensor, weight: Tensor, sharing_grid: Sequence[int], bias: Tensor | None
) -> tuple[int, ...]:
    """Check the arguments of a convolution whose kernel shares parameters; return the grid as a tuple.

    Raises:
        TypeError: The grid is no sequence, or as of :func:`check_depthwise_conv2d`.
        ValueError: The grid does not fit, or as of :func:`check_depthwise_conv2d`.
    """
    if not isinstance(sharing_grid, (tuple, list)):
        raise TypeError(
            f'sharing_grid must be a tuple or a list of positive integers, got {type(sharing_grid).__name__}'
        )
    grid = tuple(sharing_grid)
    if not grid or any(type(group) is bool or not isinstance(group, int) or group < 1 for group in grid):
        raise ValueError(f'sharing_grid must hold positive integers, got {reprlib.repr(grid)}')
    check_tensor('weight', weight)
    if weight.dim() != 4 or tuple(weight.shape[1:]) != (1, len(grid), len(grid)):
        raise ValueError(
            f'weight must have shape (C, 1, {len(grid)}, {len(grid)}), an edge per group of sharing_grid {grid}, got '
            f'{tuple(weight.shape)}'
        )
    check_odd('the kernel of sharing_grid', (sum(grid),))
    if sum(grid) > MAX_EXPANDED:
        raise ValueError(f'sharing_grid must add up to at most {MAX_EXPANDED} taps, got {sum(grid)}')
    # The edges of the parameters may be even, those of the kernel may not.
    check_depthwise_conv2d(x, weight[..., :1, :1], bias)
    return grid


def check_tensor(name: str, tensor: Tensor) -> None:
    """Raise ``TypeError`` unless it is a tensor that keeps its elements at strides, as all backends read them."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f'{name} must be a torch.Tensor, got {type(tensor).__name__}')
    if tensor.is_nested:
        raise TypeError(f'{name} must be one tensor, got a nested one: pad it, or call the op for each part')
    if tensor.layout != torch.strided:
        raise TypeError(f'{name} must be a dense tensor (torch.strided), got {tensor.layout}: give {name}.to_dense()')
    if isinstance(tensor, MaskedTensor):
        raise TypeError(f'{name} must be a plain tensor, got a MaskedTensor: give {name}.to_tensor(0)')
    if isinstance(tensor, UninitializedTensorMixin):
        raise TypeError(f'{name} is not initialised yet: run the lazy module it belongs to once')
    # Wrappers of compilers, of torch.func and of subclasses have no storage to look at.
    if torch.compiler.is_compiling() or type(tensor) not in (Tensor, Parameter) or is_transformed():
        return
    if tensor.has_names():
        raise TypeError(f'{name} must not have named dimensions, got {tensor.names}: give {name}.rename(None)')
    if tensor.numel() and not tensor._is_zerotensor() and not tensor.untyped_storage().size():
        # Reading it would end the process.
        raise ValueError(f'{name} has no memory left, as parameters of sharded models between their uses: gather it')


def is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation looks at the calls.

    The operators have a rule for neither: a gradient of torch.func fails, a forward-mode derivative would be zero.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def check_odd(name: str, kernel_size: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless every edge is a positive odd number (only those have a centre tap)."""
    if any(edge < 1 or edge % 2 == 0 for edge in kernel_size):
        text = ' x '.join(map(str, kernel_size))
        raise ValueError(f'{name} must have positive odd edges, so that output and input have one size, got {text}')


def check_backend(name: str, backend: str | None, known: Sequence[str]) -> None:
    """Raise ``ValueError`` unless the argument ``name`` is ``None`` or one of the ``known`` backends."""
    if backend is not None and not (isinstance(backend, str) and backend in known):
        raise ValueError(f'{name} must be None or one of {list(known)}, got {reprlib.repr(backend)}')

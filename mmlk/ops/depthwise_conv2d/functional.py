"""The user's function and the explanation of its dispatch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mmlk.ops.checks import check_backend, check_depthwise_conv2d, is_transformed
from mmlk.ops.depthwise_conv2d import reference
from mmlk.ops.depthwise_conv2d.backends import dispatcher
from mmlk.ops.depthwise_conv2d.library import operators
from mmlk.ops.dispatch import PASSES, Choice
from mmlk.ops.library import autocast_off, cast_for_autocast

_default_backend: str | None = None


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str | None = None) -> Tensor:
    """Correlate every channel with its own large kernel, stride 1, output the size of the input.

    Equation: y[n,c,p,q] = b[c] + sum_{r,s} w[c,0,r,s] * x[n,c,p+r-R//2,q+s-S//2], zeros outside the map.

    Args:
        x: Feature map (N, C, H, W), any strides, float16/bfloat16/float32/float64. N may be 0.
        weight: Kernels (C, 1, R, S), R and S odd and independent, same dtype and device as ``x``; may be larger than
            the map.
        bias: Offsets (C,).
        backend: Force one backend for all three passes: ``'triton'``, ``'cpu'`` (or one of its algorithms,
            ``'cpu/fft'``, ``'cpu/channels_last'``, ``'cpu/contiguous'``) or ``'reference'``. ``None`` takes, per pass,
            the fastest by prediction among those that can run, and the reference under ``torch.func`` and for
            forward-mode derivatives.

    Returns:
        Tensor (N, C, H, W), dtype of ``x``; channels_last if ``x`` is (and is not contiguous as well), else contiguous.
        Under autocast, inputs and output have the autocast dtype.

    Raises:
        TypeError: An argument is no dense floating-point tensor, or dtypes differ outside autocast.
        ValueError: R or S is even, shapes or devices do not fit, or ``backend`` is unknown.
        RuntimeError: ``backend`` was forced and cannot run; the message says why.

    Example:
        >>> depthwise_conv2d(torch.ones(1, 2, 5, 5), torch.ones(2, 1, 3, 3))[0, 0, 2, 2].item()
        9.0
    """
    x, weight, bias = cast_for_autocast(x, weight, bias)
    check_depthwise_conv2d(x, weight, bias)
    backend = resolve_backend(backend)
    if backend == 'reference' or not torch.compiler.is_compiling() and _all_reference(x, weight, backend):
        # PyTorch's own convolution brings autograd of any order and needs no detour.
        with autocast_off(x):
            return reference.forward(x, weight, bias)
    return operators.forward(x, weight, bias, backend)


@contextmanager
def default_backend(name: str | None) -> Iterator[None]:
    """Use one backend for every call inside that names none, such as ``'reference'`` for an export to ONNX.

    Args:
        name: As ``backend`` of :func:`depthwise_conv2d`; ``None`` chooses as usual.

    Raises:
        ValueError: There is no such backend.
    """
    global _default_backend
    check_backend('name', name, dispatcher.names())
    before, _default_backend = _default_backend, name
    try:
        yield
    finally:
        _default_backend = before


def resolve_backend(backend: str | None, more: Sequence[str] = ()) -> str | None:
    """The backend asked for, or the default one; ``more`` are names another op knows besides.

    Raises:
        ValueError: There is no such backend.
        RuntimeError: It has no rule for ``torch.func`` and forward-mode differentiation, which are active.
    """
    backend = _default_backend if backend is None else backend
    check_backend('backend', backend, [*more, *dispatcher.names()])
    if backend != 'reference' and is_transformed():
        if backend is not None:
            raise RuntimeError(
                f'backend {backend!r} has no rule for torch.func and forward-mode differentiation: give None or '
                "'reference' there"
            )
        return 'reference'
    return backend


def explain(x: Tensor, weight: Tensor, *, backend: str | None = None) -> dict[str, Choice]:
    """Say which backend each pass of ``depthwise_conv2d(x, weight)`` takes, and why others were not taken.

    Args:
        x: Feature map (N, C, H, W).
        weight: Kernels (C, 1, R, S).
        backend: The backend that would be forced.

    Returns:
        For each of 'forward', 'grad_input' and 'grad_weight' a choice with ``backend.name``, ``detail`` (what it will
        do) and ``rejected`` (reason per backend that was preferred and not taken).

    Example:
        >>> explain(torch.ones(2, 64, 56, 56), torch.ones(64, 1, 31, 31))['forward'].backend.name
        'cpu'
    """
    x, weight, _ = cast_for_autocast(x, weight, None)
    check_depthwise_conv2d(x, weight, None)
    check_backend('backend', backend, dispatcher.names())
    return dispatcher.explain(x, weight, _default_backend if backend is None else backend)


def _all_reference(x: Tensor, weight: Tensor, backend: str | None) -> bool:
    return all(dispatcher.select(name, x, weight, backend).backend.name == 'reference' for name in PASSES)

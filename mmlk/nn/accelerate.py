"""Give the depthwise convolutions of any model the large-kernel op."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from mmlk.nn.large_kernel_conv import LargeKernelConv2d, find_unsupported, half
from mmlk.ops.checks import FLOAT_DTYPES, check_backend
from mmlk.ops.depthwise_conv2d import dispatcher

#: What a subclass of ``nn.Conv2d`` may define and still convolve as ``nn.Conv2d`` does: how it is built and described.
HARMLESS = {
    '__annotations__',
    '__dict__',
    '__doc__',
    '__firstlineno__',
    '__init__',
    '__module__',
    '__qualname__',
    '__static_attributes__',
    '__weakref__',
    'extra_repr',
}

#: Methods of other packages, by module and name, that were read and do what those of ``nn.Conv2d`` do. That of mmcv
#: differs for empty inputs before PyTorch 1.5.
PLAIN_METHODS = {('mmcv.cnn.bricks.wrappers', 'Conv2d.forward')}

#: How many names a line of the report shows.
NAMES_SHOWN = 2


@dataclass(frozen=True)
class DepthwiseConv:
    """One depthwise convolution of a model.

    Attributes:
        name: Where it is in the model, ``''`` if it is the model itself; the first place, where it is used at several.
        channels: Channels of its input.
        kernel_size: Edges (R, S).
        reason: Why it was left as it was; ``''`` where it was not.
    """

    name: str
    channels: int
    kernel_size: tuple[int, int]
    reason: str = ''


@dataclass(frozen=True)
class AccelerationReport:
    """What :func:`accelerate` did; ``print`` shows it in a few lines.

    Attributes:
        min_kernel: Smallest value of the larger kernel edge that was looked at.
        swapped: Convolutions that are computed by the op from now on.
        already: Those that were before.
        left: Those that are not, with the reason.
        others: Number of other ``nn.Conv2d``: not depthwise, or with a smaller kernel.
    """

    min_kernel: int
    swapped: tuple[DepthwiseConv, ...]
    already: tuple[DepthwiseConv, ...]
    left: tuple[DepthwiseConv, ...]
    others: int

    def __str__(self) -> str:
        what = f'nn.Conv2d with a kernel edge >= {self.min_kernel}'
        if not (self.swapped or self.already or self.left):
            return f'accelerate: nothing to do, found no depthwise {what} (others: {self.others})'
        counts = f'{len(self.swapped)} swapped, {len(self.already)} already swapped, {len(self.left)} left'
        lines = [f'accelerate: depthwise {what}: {counts}']
        for word, group in (('swapped', self.swapped), ('already', self.already), ('left', self.left)):
            alike: dict[tuple[tuple[int, int], str], list[str]] = {}
            for conv in group:
                alike.setdefault((conv.kernel_size, conv.reason), []).append(conv.name or '(the model itself)')
            for (kernel_size, reason), names in alike.items():
                edges = ' x '.join(map(str, kernel_size))
                because = f', because {reason}' if reason else ''
                lines.append(f'  {word} {edges}: {len(names)} ({_shorten(names)}){because}')
        return '\n'.join(lines)


def accelerate(model: nn.Module, *, min_kernel: int = 7, backend: str | None = None) -> AccelerationReport:
    """Compute every eligible depthwise ``nn.Conv2d`` of a model by :func:`mmlk.ops.depthwise_conv2d`, in place.

    Eligible are those with one kernel per channel, odd edges of which the larger is at least ``min_kernel``, stride 1,
    dilation 1 and zero padding by half the kernel, whose class convolves as ``nn.Conv2d`` does.

    The modules themselves stay and only become :class:`mmlk.nn.LargeKernelConv2d`: their place, parameters, hooks,
    parametrisations, mode and state dict are what they were, so optimizers, wrappers, averaged copies and checkpoints
    made before still fit. The model itself may be such a convolution. A second call changes nothing, the backend of
    what was swapped before included.

    Args:
        model: Any module, on any device, wrapped or not.
        min_kernel: Smallest larger edge, in pixels; below 7, PyTorch's own convolution is limited by memory.
        backend: Backend of the op for what is swapped; ``None`` takes, per call, the first that can run.

    Returns:
        What was swapped, and what was left and why.

    Raises:
        TypeError: ``model`` is not a module, or a TorchScript one, whose code cannot be replaced.
        ValueError: ``min_kernel`` is below 1, or ``backend`` unknown. Nothing is changed then.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(8, 8, 31, padding=15, groups=8), nn.Conv2d(8, 8, 1))
        >>> print(accelerate(model))
        accelerate: depthwise nn.Conv2d with a kernel edge >= 7: 1 swapped, 0 already swapped, 0 left
          swapped 31 x 31: 1 (0)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f'model must be an nn.Module, got {type(model).__name__}')
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f'model must not be a TorchScript module, got {type(model).__name__}; accelerate it before')
    if type(min_kernel) is not int or min_kernel < 1:
        raise ValueError(f'min_kernel must be an integer of at least 1, got {reprlib.repr(min_kernel)}')
    check_backend('backend', backend, dispatcher.names())
    swapped, already, left, others = [], [], [], 0
    for name, module in model.named_modules():
        if not _is_large_depthwise(module, min_kernel):
            others += isinstance(module, nn.Conv2d)
            continue
        reason = _why_not(module)
        found = DepthwiseConv(name, module.in_channels, tuple(module.kernel_size), reason)
        if reason:
            left.append(found)
        elif isinstance(module, LargeKernelConv2d):
            already.append(found)
        else:
            _swap(module, backend)
            swapped.append(found)
    return AccelerationReport(min_kernel, tuple(swapped), tuple(already), tuple(left), others)


def _is_large_depthwise(module: nn.Module, min_kernel: int) -> bool:
    """By attributes, so that quantised, scripted and deformable ones count as well, to be left with a reason."""
    kernel_size = getattr(module, 'kernel_size', None)
    if not isinstance(kernel_size, (tuple, list)) or len(kernel_size) != 2 or getattr(module, 'transposed', False):
        return False
    channels, groups = getattr(module, 'in_channels', None), getattr(module, 'groups', None)
    if groups is None or channels not in (groups, 0):  # 0 channels: a lazy module that was not run yet
        return False
    # One channel convolved to many is a dense convolution of a grey-scale image.
    depthwise = groups > 1 or getattr(module, 'out_channels', None) == 1
    return depthwise and max(kernel_size) >= min_kernel


def _why_not(module: nn.Module) -> str:
    """Why a depthwise convolution cannot be swapped; ``''`` if it can be or is."""
    if isinstance(module, LargeKernelConv2d):
        return ''
    if isinstance(module, torch.jit.ScriptModule):
        return 'it is compiled by TorchScript'
    if not isinstance(module, nn.Conv2d):
        return f'it is a {_full_name(type(module))}, not an nn.Conv2d'
    # Never `module.weight`, which a parametrisation computes, spectral_norm with an update of its buffers.
    parameters = list(module.parameters())
    if any(is_lazy(parameter) for parameter in parameters):
        return 'it is lazy and was not run yet'
    own = _methods_of_its_own(module)
    if own:
        return f'its {_full_name(type(module))} has {_shorten(own)} of its own'
    if any(edge % 2 == 0 for edge in module.kernel_size):
        return 'its kernel has an even edge'
    unsupported = find_unsupported(
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.groups,
        module.padding_mode,
    )
    if 'dilation' in unsupported:
        # Its padding follows from it and is not a second reason.
        unsupported.pop('padding', None)
    if unsupported:
        return ', '.join(f'{name} is {given}, not {expected}' for name, (given, expected) in unsupported.items())
    for parameter in parameters:
        if parameter.dtype not in FLOAT_DTYPES:
            return f'its dtype is {parameter.dtype}'
    return ''


def _methods_of_its_own(conv: nn.Conv2d) -> list[str]:
    """Names by which a convolution may differ from ``nn.Conv2d``, in its classes or the object itself."""
    own = [name for name in ('forward', '_conv_forward') if name in vars(conv)]
    for cls in parametrize.type_before_parametrizations(conv).__mro__:
        if cls in nn.Conv2d.__mro__:
            continue
        for name, value in vars(cls).items():
            method = (getattr(value, '__module__', None), getattr(value, '__qualname__', None))
            if name not in HARMLESS and method not in PLAIN_METHODS:
                own.append(name)
    return own


def _swap(conv: nn.Conv2d, backend: str | None) -> None:
    # The class changes and not the module, as in torch's own parametrisations: everything that refers to the module
    # (parents, hooks, wrappers, lists of a model's author) goes on to refer to the right one.
    if parametrize.is_parametrized(conv):
        # Its class derives from the plain one and adds the property that computes the weight.
        added = {name: value for name, value in vars(type(conv)).items() if name not in ('__dict__', '__weakref__')}
        conv.__class__ = type(f'Parametrized{LargeKernelConv2d.__name__}', (LargeKernelConv2d,), added)
    else:
        conv.__class__ = LargeKernelConv2d
    conv.padding = half(conv.kernel_size)
    conv.backend = backend


def _full_name(cls: type) -> str:
    return f'{cls.__module__}.{cls.__qualname__}'


def _shorten(names: list[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    return ', '.join(names[:NAMES_SHOWN]) + (f' and {rest} more' if rest > 0 else '')

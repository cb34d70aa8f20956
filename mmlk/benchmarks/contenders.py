"""The op and what it is compared with, each as a function of input and kernels that autograd can differentiate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlk.benchmarks.roofline import fft_length
from mmlk.ops import depthwise_conv2d, expand_kernel, peripheral_conv2d

Function = Callable[[Tensor, Tensor], Tensor]

_PYTORCH = ('contiguous', 'channels_last', 'fft')
#: Per op the baselines that start from the same tensors; a user has the choice between them. ``'dense'`` expands the
#: kernel and calls ``depthwise_conv2d``.
BASELINES = {'depthwise': _PYTORCH, 'peripheral': ('dense', *_PYTORCH)}
#: A baseline that gets its input in channels_last without paying for the conversion; recorded for information.
PRECONVERTED = 'channels_last_preconverted'


def conv2d_contiguous(x: Tensor, weight: Tensor) -> Tensor:
    """PyTorch's convolution on NCHW tensors."""
    return F.conv2d(x.contiguous(), weight, padding=_padding(weight), groups=x.shape[1])


def conv2d_channels_last(x: Tensor, weight: Tensor) -> Tensor:
    """PyTorch's convolution on NHWC tensors, with the conversion where the input is in another format."""
    x = x.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, padding=_padding(weight), groups=x.shape[1])


def plain_fft(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution theorem as a user writes it: float32, one shot, gradients by autograd."""
    (h, w), (r, s) = x.shape[2:], weight.shape[2:]
    # What is longer than the length wraps around into the rows and columns that are cropped.
    length = fft_length(h, r), fft_length(w, s)
    kernel = torch.fft.rfft2(_at_least_float32(weight[:, 0].flip(1, 2)), length)
    y = torch.fft.irfft2(torch.fft.rfft2(_at_least_float32(x), length) * kernel, length)
    return y[:, :, r // 2 : r // 2 + h, s // 2 : s // 2 + w].to(x.dtype).contiguous()


def plain_fft_gradients(
    x: Tensor, weight: Tensor, grad: Tensor, wants_input: bool, wants_weight: bool
) -> dict[str, Tensor]:
    """The gradients of :func:`plain_fft` as a user writes them, from the tensors alone."""
    (h, w), (r, s) = x.shape[2:], weight.shape[2:]
    length = fft_length(h, r), fft_length(w, s)
    spectrum = torch.fft.rfft2(_at_least_float32(grad), length)
    results = {}
    if wants_input:
        kernel = torch.fft.rfft2(_at_least_float32(weight[:, 0]), length)
        dx = torch.fft.irfft2(spectrum * kernel, length)
        results['dx'] = dx[:, :, r // 2 : r // 2 + h, s // 2 : s // 2 + w].to(x.dtype).contiguous()
    if wants_weight:
        product = (torch.fft.rfft2(_at_least_float32(x), length) * spectrum.conj()).sum(0)
        dw = torch.fft.irfft2(product, length).roll((r // 2, s // 2), (1, 2))
        # Where the kernel is longer than the transform, the taps beyond never meet the map.
        dw = F.pad(dw[:, :r, :s], (0, max(0, s - length[1]), 0, max(0, r - length[0])))
        results['dw'] = dw[:, None].to(weight.dtype)
    return results


class Contender:
    """One implementation on the tensors of one case.

    Args:
        function: What is measured.
        x: Input (N, C, H, W).
        weight: Kernels (C, 1, R, S), or the parameters (C, 1, k', k') of a sharing grid.
        grad: Gradient of the output.
        synchronize: Waits for the device.
        own_graphs: A gradient alone needs a graph in which only its tensor wants one, because the function's autograd
            rule computes what its inputs ask for, not what ``torch.autograd.grad`` asks for.
    """

    def __init__(
        self,
        function: Function,
        x: Tensor,
        weight: Tensor,
        grad: Tensor,
        synchronize: Callable[[], None],
        own_graphs: bool = False,
    ) -> None:
        self.function = function
        self.x = x.detach().requires_grad_()
        self.weight = weight.detach().requires_grad_()
        self.grad = grad
        self.synchronize = synchronize
        self.own_graphs = own_graphs
        #: Seconds of the first forward, and seconds and errors of a backward too slow to be run again.
        self.forward_seconds: float | None = None
        self.slow_backward: tuple[float, dict[str, float]] | None = None
        self._graphs: dict[str, tuple[Tensor, tuple[Tensor, ...]]] = {}

    def prepare(self, pass_name: str) -> None:
        """Build the graph whose backward the pass is; times the first forward on the way."""
        if pass_name in ('forward', 'forward_backward'):
            return
        key = pass_name if self.own_graphs else 'backward'
        if key in self._graphs:
            return
        x = self.x.detach() if key == 'grad_weight' else self.x
        weight = self.weight.detach() if key == 'grad_input' else self.weight
        self.synchronize()
        start = time.perf_counter()
        y = self.function(x, weight)
        self.synchronize()
        if self.forward_seconds is None:
            self.forward_seconds = time.perf_counter() - start
        self._graphs[key] = (y, tuple(tensor for tensor in (x, weight) if tensor.requires_grad))

    def output(self) -> Tensor | None:
        """Output of the graph's forward, if one was built."""
        return next((y.detach() for y, _ in self._graphs.values()), None)

    def run(self, pass_name: str) -> dict[str, Tensor]:
        """One call of a prepared pass: its results by the names ``y``, ``dx``, ``dw``."""
        if pass_name == 'forward':
            with torch.no_grad():
                return {'y': self.function(self.x, self.weight)}
        if pass_name == 'forward_backward':
            y = self.function(self.x, self.weight)
            dx, dw = torch.autograd.grad(y, (self.x, self.weight), self.grad)
            return {'y': y, 'dx': dx, 'dw': dw}
        y, leaves = self._graphs[pass_name if self.own_graphs else 'backward']
        if pass_name == 'backward':
            dx, dw = torch.autograd.grad(y, leaves, self.grad, retain_graph=True)
            return {'dx': dx, 'dw': dw}
        leaf = leaves[0] if self.own_graphs or pass_name == 'grad_input' else leaves[1]
        (result,) = torch.autograd.grad(y, leaf, self.grad, retain_graph=True)
        return {'dx' if pass_name == 'grad_input' else 'dw': result}


class PlainFft(Contender):
    """FFT in plain user code; a gradient alone is computed from the tensors, as every other contender does.

    Autograd would have kept the spectra of the forward, several times the memory of the map, and a gradient timed alone
    would not pay for them. ``forward_backward`` runs through autograd and does.

    Args:
        case: What it runs on.
        synchronize: Waits for the device.
    """

    def __init__(self, case: Case, synchronize: Callable[[], None]) -> None:
        super().__init__(case.on_kernel(plain_fft), case.x, case.weight, case.grad, synchronize)
        self.kernel = case.kernel
        self._output: Tensor | None = None

    def prepare(self, pass_name: str) -> None:
        """Only times the first forward: there is no graph to build."""
        if self.forward_seconds is None:
            self.synchronize()
            start = time.perf_counter()
            self._output = super().run('forward')['y']
            self.synchronize()
            self.forward_seconds = time.perf_counter() - start

    def output(self) -> Tensor | None:
        """Output of the first forward."""
        return self._output

    def run(self, pass_name: str) -> dict[str, Tensor]:
        """As of :class:`Contender`."""
        if pass_name in ('forward', 'forward_backward'):
            return super().run(pass_name)
        kernel = self.kernel(self.weight)
        with torch.no_grad():
            results = plain_fft_gradients(
                self.x, kernel, self.grad, pass_name != 'grad_weight', pass_name != 'grad_input'
            )
        if 'dw' in results and kernel is not self.weight:
            (results['dw'],) = torch.autograd.grad(kernel, self.weight, results['dw'])
        return results


@dataclass(frozen=True)
class Case:
    """Tensors of one row's shape, dtype and layout; ``weight`` are the parameters if there is a sharing grid."""

    x: Tensor
    weight: Tensor
    grad: Tensor
    grid: tuple[int, ...] = ()

    def kernel(self, weight: Tensor) -> Tensor:
        """The kernels (C, 1, R, S) of a weight."""
        return expand_kernel(weight, self.grid) if self.grid else weight

    def on_kernel(self, function: Function) -> Function:
        """What a user without the sharing op writes: the kernels first, then ``function``."""
        return (lambda x, weight: function(x, self.kernel(weight))) if self.grid else function


def make_case(
    size: tuple[int, ...],
    dtype: torch.dtype,
    layout: str,
    device: str,
    generator: torch.Generator,
    grid: tuple[int, ...] = (),
) -> Case:
    """Random tensors; the kernels are scaled so that the output has about the size of the input.

    Args:
        size: (N, C, H, W, R, S).
        dtype: Of all three.
        layout: ``'contiguous'`` or ``'channels_last'``, of input and output gradient.
        device: Device of ``generator`` too.
        generator: Source of randomness.
        grid: Taps that share a parameter, per group along both axes; empty: each tap has its own.
    """
    n, c, h, w, r, s = size
    memory_format = torch.channels_last if layout == 'channels_last' else torch.contiguous_format

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, generator=generator)

    x = draw(n, c, h, w).to(dtype).contiguous(memory_format=memory_format)
    parameters = (len(grid), len(grid)) if grid else (r, s)
    weight = (draw(c, 1, *parameters) * (r * s) ** -0.5).to(dtype)
    grad = draw(n, c, h, w).to(dtype).contiguous(memory_format=memory_format)
    return Case(x, weight, grad, grid)


def make_contenders(
    case: Case, backend: str | None, synchronize: Callable[[], None]
) -> tuple[Contender, dict[str, Contender | str]]:
    """Ours, and the baselines by name; in place of a baseline that cannot run stands the reason."""

    def op(backend: str | None) -> Function:
        if case.grid:
            return lambda x, weight: peripheral_conv2d(x, weight, case.grid, backend=backend)
        return lambda x, weight: depthwise_conv2d(x, weight, backend=backend)

    def contender(function: Function, x: Tensor = case.x, grad: Tensor = case.grad, own_graphs: bool = False):
        return Contender(function, x, case.weight, grad, synchronize, own_graphs)

    baselines: dict[str, Contender | str] = {}
    if case.grid:
        baselines['dense'] = contender(op('dense'), own_graphs=True)
    never = _never_returns(case.x)
    for name, function in (('contiguous', conv2d_contiguous), ('channels_last', conv2d_channels_last)):
        baselines[name] = never or contender(case.on_kernel(function))
    x, grad = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (case.x, case.grad))
    baselines[PRECONVERTED] = never or contender(case.on_kernel(conv2d_channels_last), x, grad)
    baselines['fft'] = PlainFft(case, synchronize)
    return contender(op(backend), own_graphs=True), baselines


def _never_returns(x: Tensor) -> str | None:
    # Seen with torch 2.11 on a CPU with AMX; see mmlk/ops/depthwise_conv2d/reference.py.
    if x.device.type == 'cpu' and x.dtype == torch.float16:
        return 'not run: F.conv2d does not return for float16 depthwise convolutions on some CPUs'
    if x.device.type == 'cpu' and x.dtype == torch.bfloat16 and x.shape[1] <= 16:
        return 'not run: F.conv2d does not return for bfloat16 depthwise convolutions of up to 16 channels on some CPUs'
    return None


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()

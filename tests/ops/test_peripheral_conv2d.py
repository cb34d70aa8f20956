"""The op whose kernel shares parameters: every backend against the expanded kernel."""

import pytest
import torch
from numerics import assert_close

from mmlk.ops import default_backend, depthwise_conv2d, expand_kernel, peripheral_conv2d
from mmlk.ops.peripheral_conv2d import dense, dispatcher, explain
from mmlk.ops.peripheral_conv2d.cpu import _Kernel
from mmlk.ops.peripheral_conv2d.functional import operators
from mmlk.ops.peripheral_conv2d.sharing import collapse_gradient, crop_grid

GRID = (7, 4, 2, 1, 1, 1, 1, 1, 2, 4, 7)

#: N, C, H, W and the grid.
CASES = [
    ((2, 3, 20, 24), GRID),
    ((2, 3, 9, 5), GRID),  # taps that never touch the map
    ((1, 2, 30, 13), (3, 1, 2, 1)),  # an even number of groups, not symmetric
    ((1, 2, 1, 1), (3, 1, 2, 1)),
    ((3, 1, 7, 8), (5,)),
    ((70, 40, 3, 4), (2, 1, 2)),  # several chunks
    ((0, 3, 8, 8), (2, 1, 2)),  # an empty batch
]
BACKENDS = [None, 'shared/cpu', 'dense', 'reference', 'cpu/channels_last']


def case_id(case) -> str:
    (n, c, h, w), grid = case
    return f'N{n}-C{c}-H{h}xW{w}-{"_".join(map(str, grid))}'


def make(shape, grid, dtype):
    edge = len(grid)
    x, weight = torch.randn(shape, dtype=dtype), torch.randn(shape[1], 1, edge, edge, dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_(), torch.randn(shape[1], dtype=dtype).requires_grad_()


def expected(x, weight, bias, grid, grad):
    """Output and gradients in float64, through the expanded kernel."""
    x, weight, bias = (t.detach().double().requires_grad_() for t in (x, weight, bias))
    y = depthwise_conv2d(x, expand_kernel(weight, grid), bias, backend='reference')
    return y, *torch.autograd.grad(y, (x, weight, bias), grad.double())


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('case', CASES, ids=case_id)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_equals_the_expanded_kernel(case, dtype, backend):
    shape, grid = case
    if backend == 'shared/cpu' and not shape[0]:
        pytest.skip('the sharing structure has nothing to do on an empty batch, and says so')
    x, weight, bias = make(shape, grid, dtype)
    grad = torch.randn(shape, dtype=dtype)
    with dispatcher.record() as calls:
        y = peripheral_conv2d(x, weight, grid, bias, backend=backend)
        gradients = torch.autograd.grad(y, (x, weight, bias), grad)
    if backend in ('shared/cpu', 'dense'):
        assert calls == [(name, backend) for name in ('forward', 'grad_input', 'grad_weight')]
    elif backend is not None:
        assert calls == []
    for actual, wanted in zip((y, *gradients), expected(x, weight, bias, grid, grad), strict=True):
        assert actual.dtype == dtype
        assert_close(actual, wanted)


@pytest.mark.parametrize('backend', ['shared/cpu', 'dense'])
def test_one_gradient_alone(backend):
    shape, grid = CASES[0]
    tensors = make(shape, grid, torch.float64)
    grad = torch.randn(shape, dtype=torch.float64)
    wanted = expected(*tensors, grid, grad)[1:]
    for index in range(3):
        x, weight, bias = (t.detach().requires_grad_(i == index) for i, t in enumerate(tensors))
        y = peripheral_conv2d(x, weight, grid, bias, backend=backend)
        (actual,) = torch.autograd.grad(y, (x, weight, bias)[index], grad)
        assert_close(actual, wanted[index])


def test_hand_computed():
    """A row of five taps 1 1 10 100 100 over an impulse."""
    x = torch.zeros(1, 1, 1, 7)
    x[..., 3] = 1
    weight = torch.tensor([[0.0, 0.0, 0.0], [1.0, 10.0, 100.0], [0.0, 0.0, 0.0]])[None, None]
    wanted = torch.tensor([0.0, 100.0, 100.0, 10.0, 1.0, 1.0, 0.0])
    for backend in BACKENDS[:-1]:
        y = peripheral_conv2d(x, weight, (2, 1, 2), backend=backend)
        torch.testing.assert_close(y.flatten(), wanted, atol=1e-5, rtol=0)


def test_gradient_is_the_sum_over_the_group():
    grad = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert torch.equal(
        collapse_gradient(grad, (2, 1, 2))[0, 0],
        torch.tensor([[12.0, 9.0, 24.0], [21.0, 12.0, 27.0], [72.0, 39.0, 84.0]]),
    )


def test_crop_grid():
    assert crop_grid(GRID, 0) == GRID
    assert crop_grid(GRID, 3) == (4, 4, 2, 1, 1, 1, 1, 1, 2, 4, 4)
    assert crop_grid(GRID, 12) == (0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0)
    assert crop_grid((3, 1, 2, 1), 2) == (1, 1, 1, 0)


def test_spectra_of_the_parameters():
    """The two matrix products give the transform of the expanded kernel."""
    x = torch.randn(1, 2, 20, 24, dtype=torch.float64)
    weight = torch.randn(2, 1, 11, 11, dtype=torch.float64)
    spectrum = _Kernel(x, weight, GRID, GRID)(slice(0, 2))
    lengths = spectrum.shape[1], 2 * (spectrum.shape[2] - 1)
    wanted = torch.fft.rfft2(expand_kernel(weight, GRID)[:, 0], lengths)
    assert_close(torch.view_as_real(spectrum), torch.view_as_real(wanted), torch.float64)


def test_nothing_of_the_size_of_the_kernel(monkeypatch):
    """The sharing backend never expands."""

    def refuse(*arguments):
        raise AssertionError('the kernel was expanded')

    for name in ('expand_kernel', 'collapse_gradient'):
        monkeypatch.setattr(dense, name, refuse)
    x, weight, _ = make((1, 2, 20, 24), GRID, torch.float32)
    peripheral_conv2d(x, weight, GRID, backend='shared/cpu').sum().backward()
    with pytest.raises(AssertionError, match='was expanded'):
        peripheral_conv2d(x, weight, GRID, backend='dense')


def test_explain():
    large = explain(torch.ones(2, 24, 128, 128), torch.ones(24, 1, 13, 13), (9, 8, 4, 2, *(1,) * 5, 2, 4, 8, 9))
    assert {choice.backend.name for choice in large.values()} == {'shared/cpu'}
    small = explain(torch.ones(2, 24, 7, 7), torch.ones(24, 1, 3, 3), (2, 1, 2))
    assert {choice.backend.name for choice in small.values()} == {'dense'}
    assert 'the dense kernel is faster by contiguous' in small['forward'].rejected['shared/cpu']
    with pytest.raises(RuntimeError, match='shared/triton: .*'):
        explain(torch.ones(1, 2, 9, 9).double(), torch.ones(2, 1, 3, 3).double(), (2, 1, 2), backend='shared/triton')


def test_autocast_and_memory_format():
    x, weight, bias = make((2, 3, 20, 24), GRID, torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = peripheral_conv2d(x.to(memory_format=torch.channels_last), weight, GRID, bias, backend='shared/cpu')
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)
    assert_close(y, expected(x, weight, bias, GRID, torch.ones_like(x))[0])


@pytest.mark.parametrize('backend', [None, 'dense', 'reference'])
def test_compiles_without_graph_breaks(backend):
    torch.compiler.reset()
    x, weight, bias = make((2, 3, 20, 24), GRID, torch.float32)
    compiled = torch.compile(peripheral_conv2d, fullgraph=True, backend='aot_eager')
    actual = compiled(x, weight, GRID, bias, backend=backend)
    y, dx, _, _ = expected(x, weight, bias, GRID, torch.ones_like(x))
    assert_close(actual, y)
    assert_close(torch.autograd.grad(actual.sum(), x)[0], dx)
    torch.compiler.reset()


def test_opcheck():
    x, weight, bias = make((2, 3, 9, 8), (2, 1, 2), torch.float32)
    torch.library.opcheck(operators.forward, (x, weight, bias, 'shared/cpu', [2, 1, 2]))
    with torch.no_grad():
        grad = torch.randn_like(x)
        tests = ('test_schema', 'test_faketensor')
        for operator, tensors in (
            (operators.grad_input, (grad, weight)),
            (operators.grad_weight, (grad, x, weight)),
            (operators.backward, (grad, x, weight)),
        ):
            arguments = tuple(t.detach() for t in tensors)
            torch.library.opcheck(operator, (*arguments, None, [2, 1, 2]), test_utils=tests)


def test_exports_as_a_plain_convolution():
    class Conv(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(2, 1, 3, 3))

        def forward(self, x):
            return peripheral_conv2d(x, self.weight, (2, 1, 2))

    with default_backend('reference'):
        program = torch.export.export(Conv(), (torch.randn(1, 2, 9, 9),))
    names = {str(node.target) for node in program.graph.nodes if node.op == 'call_function'}
    assert 'aten.conv2d.default' in names and not any('mmlk' in name for name in names)


@pytest.mark.parametrize(
    ('grid', 'edge', 'message'),
    [
        ((2, 1, 1), 3, r'the kernel of sharing_grid must have positive odd edges, .* got 4'),
        ((2, 0, 1), 3, r'sharing_grid must hold positive integers, got \(2, 0, 1\)'),
        ((2, 1, 2), 4, r'weight must have shape \(C, 1, 3, 3\), an edge per group of sharing_grid'),
    ],
)
def test_bad_grid(grid, edge, message):
    with pytest.raises(ValueError, match=message):
        peripheral_conv2d(torch.ones(1, 2, 9, 9), torch.ones(2, 1, edge, edge), grid)


def test_bad_arguments():
    x, weight = torch.ones(1, 2, 9, 9), torch.ones(2, 1, 3, 3)
    with pytest.raises(ValueError, match=r'one kernel per channel of x \(2\), got 3 kernels'):
        peripheral_conv2d(x, torch.ones(3, 1, 3, 3), (2, 1, 2))
    with pytest.raises(TypeError, match='weight must be a torch.Tensor, got list'):
        peripheral_conv2d(x, [1.0], (2, 1, 2))
    with pytest.raises(ValueError, match=r"backend must be None or one of \['shared/triton', .* got 'fast'"):
        peripheral_conv2d(x, weight, (2, 1, 2), backend='fast')

"""The op as PyTorch's compiler, exporter and autograd see it."""

import shutil

import pytest
import torch
from numerics import assert_close
from torch import nn

from mmlk.ops import default_backend, depthwise_conv2d
from mmlk.ops.depthwise_conv2d import dispatcher
from mmlk.ops.depthwise_conv2d.library import operators
from ops.cases import literal, make

SHAPES = [(2, 3, 9, 11, 13, 5), (1, 2, 6, 6, 5, 5)]


@pytest.fixture(autouse=True)
def forget_compiled_code():
    """All compiled variants of one function count against its recompile limit."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
def test_opcheck(shape, layout):
    """Schema, fake kernels (shapes and strides) and registration of all four operators."""
    x, weight, bias = make(shape, torch.float32)
    x = x.to(memory_format=layout)
    grad = torch.randn_like(x)
    tests = ('test_schema', 'test_faketensor', 'test_autograd_registration')
    torch.library.opcheck(operators.grad_input, (grad, weight, None), test_utils=tests)
    torch.library.opcheck(operators.grad_weight, (grad, x, weight, None), test_utils=tests)
    torch.library.opcheck(operators.backward, (grad, x, weight, None), test_utils=tests)
    x, weight, bias = x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()
    torch.library.opcheck(operators.forward, (x, weight, bias, None))
    torch.library.opcheck(operators.forward, (x, weight, None, 'cpu/fft'))


@pytest.mark.parametrize('backend', [None, 'cpu/fft', 'reference'])
@pytest.mark.parametrize('dynamic', [False, True])
def test_compiles_without_graph_breaks(backend, dynamic):
    x, weight, bias = (t.requires_grad_() for t in make((2, 4, 12, 9, 13, 7), torch.float32))
    compiled = torch.compile(depthwise_conv2d, fullgraph=True, backend='aot_eager', dynamic=dynamic)
    with dispatcher.record() as calls:
        y = compiled(x, weight, bias, backend=backend)
        actual = torch.autograd.grad(y.square().sum(), (x, weight, bias))
    expected = depthwise_conv2d(x, weight, bias, backend=backend)
    assert torch.equal(y, expected)
    for a, b in zip(actual, torch.autograd.grad(expected.square().sum(), (x, weight, bias)), strict=True):
        assert_close(a, b)
    if backend != 'reference':
        assert [name for name, _ in calls] == ['forward', 'grad_input', 'grad_weight']
    if dynamic:
        x = torch.randn(3, 4, 17, 10)
        assert_close(compiled(x, weight, bias, backend=backend), literal(x, weight, bias))


class Partial(nn.Module):
    """Convolves some channels of a convolution's output, as PeLK does; compilers may turn the layout around it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.weight = nn.Parameter(torch.randn(6, 1, 7, 7))

    def forward(self, x):
        x = self.stem(x)
        return torch.cat([depthwise_conv2d(x[:, :6], self.weight), x[:, 6:]], 1)


@pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile with its default backend needs g++')
def test_compiles_with_inductor():
    """Inductor runs convolutions in channels_last, whatever eager does."""
    model, x = Partial(), torch.randn(1, 3, 8, 8)
    y = torch.compile(model, fullgraph=True)(x)
    assert_close(y, model(x))
    actual = torch.autograd.grad(y.square().sum(), list(model.parameters()))
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    for a, b in zip(actual, expected, strict=True):
        assert_close(a, b, torch.float32)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_compiles_under_autocast(dtype):
    x, weight, bias = make((1, 4, 12, 9, 13, 7), torch.float32)
    compiled = torch.compile(depthwise_conv2d, fullgraph=True, backend='aot_eager')
    with torch.autocast('cpu', dtype=dtype):
        y = compiled(x, weight, bias)
    assert y.dtype == dtype
    assert_close(y, literal(x, weight, bias))


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 1, 13, 13))

    def forward(self, x):
        return depthwise_conv2d(x, self.weight)


def targets(program) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == 'call_function']


def test_exports_as_one_operator():
    batch, height = torch.export.Dim('batch', min=2), torch.export.Dim('height', min=4)
    model, x = Conv(), torch.randn(2, 4, 12, 9)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch, 2: height},))
    assert targets(program) == ['mmlk.depthwise_conv2d.default']
    x = torch.randn(5, 4, 20, 9)
    assert_close(program.module()(x), model(x))


def test_exports_as_a_plain_convolution():
    model, x = Conv(), torch.randn(2, 4, 12, 9)
    with default_backend('reference'):
        program = torch.export.export(model, (x,))
    assert targets(program) == ['aten.conv2d.default']
    assert_close(program.module()(x), model(x))


def test_second_derivative_is_refused():
    for wanted in ((0,), (1,), (0, 1)):
        tensors = make((1, 2, 6, 6, 13, 5), torch.float64)[:2]
        x, weight = (t.requires_grad_(i in wanted) for i, t in enumerate(tensors))
        y = depthwise_conv2d(x, weight, backend='cpu')
        grads = torch.autograd.grad(y.square().sum(), [tensors[i] for i in wanted], create_graph=True)
        with pytest.raises(RuntimeError, match=r"no second derivative .* backend='reference'"):
            sum(grad.sum() for grad in grads).backward()


def test_input_is_kept_only_for_the_weight():
    """A frozen kernel needs no copy of the activations."""
    x, weight, _ = make((1, 2, 6, 6, 13, 5), torch.float32)
    saved = []

    def pack(tensor):
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        depthwise_conv2d(x.requires_grad_(), weight, backend='cpu')
        assert saved == [weight.shape]
        depthwise_conv2d(x, weight.requires_grad_(), backend='cpu')
        assert saved[1:] == [x.shape, weight.shape]

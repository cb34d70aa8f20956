import pytest
import torch
from numerics import assert_close

from mmlk.nn import LargeKernelConv2d
from mmlk.ops import default_backend, depthwise_conv2d, explain
from mmlk.ops.depthwise_conv2d import dispatcher, reference
from ops.cases import CASES, case_id, literal, make

#: Every backend that runs here; the Triton kernels are tested in test_triton.py.
BACKENDS = [None, 'reference', 'cpu', 'cpu/fft', 'cpu/channels_last', 'cpu/contiguous']
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('case', CASES, ids=case_id)
def test_equals_the_equation(case, dtype, backend):
    x, weight, bias = make(case, dtype)
    with dispatcher.record() as calls:
        y = depthwise_conv2d(x, weight, bias, backend=backend)
    assert y.dtype == dtype
    assert_close(y, literal(x, weight, bias), dtype)
    if backend not in (None, 'reference'):
        assert calls == [('forward', backend)]


def test_hand_computed():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3)
    # Row kernel: left neighbour once, itself ten times, right neighbour a hundred times.
    weight = torch.tensor([1.0, 10.0, 100.0]).reshape(1, 1, 1, 3)
    expected = torch.tensor([[210.0, 321.0, 32.0], [540.0, 654.0, 65.0]]).reshape(1, 1, 2, 3)
    assert torch.equal(depthwise_conv2d(x, weight), expected)
    # Column kernel, with an offset.
    expected = torch.tensor([[410.5, 520.5, 630.5], [41.5, 52.5, 63.5]]).reshape(1, 1, 2, 3)
    assert torch.equal(depthwise_conv2d(x, weight.mT, torch.tensor([0.5])), expected)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('case', CASES, ids=case_id)
def test_gradients(case, backend):
    """Every gradient, asked for together and alone, against autograd through the literal equation."""
    x, weight, bias = (t.requires_grad_() for t in make(case, torch.float64))
    grad = torch.randn_like(x)
    expected = torch.autograd.grad(literal(x, weight, bias), (x, weight, bias), grad)
    with dispatcher.record() as calls:
        y = depthwise_conv2d(x, weight, bias, backend=backend)
        actual = torch.autograd.grad(y, (x, weight, bias), grad)
    for a, b in zip(actual, expected, strict=True):
        assert_close(a, b)
    if backend not in (None, 'reference'):
        assert calls == [(name, backend) for name in ('forward', 'grad_input', 'grad_weight')]
    for index in range(3):
        leaves = [t.detach().requires_grad_(i == index) for i, t in enumerate((x, weight, bias))]
        (alone,) = torch.autograd.grad(depthwise_conv2d(*leaves, backend=backend), leaves[index], grad)
        assert_close(alone, expected[index])


@pytest.mark.parametrize('case', [case for case in CASES if case[0]], ids=case_id)
def test_reference_passes(case):
    x, weight, bias = (t.requires_grad_() for t in make(case, torch.float64))
    grad = torch.randn_like(x)
    expected = torch.autograd.grad(literal(x, weight, bias), (x, weight), grad)
    assert_close(reference.grad_input(grad, x.detach(), weight.detach()), expected[0])
    assert_close(reference.grad_weight(grad, x.detach(), weight.detach()), expected[1])


@pytest.mark.parametrize('backend', BACKENDS[1:])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradients_in_low_precision(dtype, backend):
    for case in ((2, 5, 13, 17, 13, 5), (3, 16, 9, 20, 5, 21)):
        x, weight, bias = (t.requires_grad_() for t in make(case, dtype))
        grad = torch.randn_like(x)
        wide = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
        expected = torch.autograd.grad(literal(*wide), wide, grad.double())
        actual = torch.autograd.grad(depthwise_conv2d(x, weight, bias, backend=backend), (x, weight, bias), grad)
        for a, b in zip(actual, expected, strict=True):
            assert a.dtype == dtype
            assert_close(a, b)


def test_gradcheck():
    x, weight, bias = (t.requires_grad_() for t in make((1, 2, 4, 3, 3, 5), torch.float64))
    with default_backend('reference'):
        assert torch.autograd.gradcheck(depthwise_conv2d, (x, weight, bias))
        assert torch.autograd.gradgradcheck(depthwise_conv2d, (x, weight, bias))


@pytest.mark.parametrize('backend', BACKENDS)
def test_any_strides(backend):
    """Inputs and incoming gradients with other strides; the output is channels_last where the input is."""
    wide = torch.randn(2, 40, 11, 16)
    weight, bias = torch.randn(17, 1, 5, 9), torch.randn(17)
    for x in (
        wide[:, 2:19, :, 3:12],
        wide.mT[:, 1:18],
        wide[:, ::2][:, :17],
        wide[:, :17].to(memory_format=torch.channels_last),
        wide.to(memory_format=torch.channels_last)[:, :17],
        wide[:1, :17].expand(2, -1, -1, -1),
    ):
        assert not x.is_contiguous()
        x = x.detach().requires_grad_()
        y = depthwise_conv2d(x, weight, bias, backend=backend)
        last = x.stride(1) == 1
        assert y.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        assert_close(y, literal(x, weight, bias))
        # A transposed and an expanded gradient, as a reduction or a layout change leaves them.
        for grad in (torch.randn_like(y.mT).mT, torch.randn(1, 17, 1, 1).expand_as(y)):
            (actual,) = torch.autograd.grad(y, x, grad, retain_graph=True)
            (expected,) = torch.autograd.grad(literal(x, weight, bias), x, grad.double())
            assert_close(actual, expected)


@pytest.mark.parametrize('backend', BACKENDS[1:])
def test_channels_last_weight(backend):
    """``model.to(memory_format=torch.channels_last)`` changes the strides of the kernels too."""
    x, weight, bias = make((2, 6, 12, 9, 7, 5), torch.float32)
    weight = weight.to(memory_format=torch.channels_last).requires_grad_()
    y = depthwise_conv2d(x, weight, bias, backend=backend)
    assert y.is_contiguous()
    assert_close(y, literal(x, weight, bias))
    (grad,) = torch.autograd.grad(y.sum(), weight)
    assert_close(grad, torch.autograd.grad(literal(x, weight, bias).sum(), weight)[0])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('backend', BACKENDS)
def test_autocast(backend, dtype):
    x, weight, bias = (t.requires_grad_() for t in make((2, 4, 9, 9, 5, 5), torch.float32))
    with torch.autocast('cpu', dtype=dtype):
        y = depthwise_conv2d(x, weight.double(), bias, backend=backend)
        assert depthwise_conv2d(x.double(), weight.double(), backend=backend).dtype == torch.float64
        grads = torch.autograd.grad(y.float().square().sum(), (x, weight, bias))
    assert y.dtype == dtype
    assert_close(y, literal(x, weight, bias))
    expected = torch.autograd.grad(literal(x, weight, bias).square().sum(), (x, weight, bias))
    for a, b in zip(grads, expected, strict=True):
        assert a.dtype == torch.float32
        assert_close(a, b, dtype)


@pytest.mark.parametrize('backend', BACKENDS[1:])
def test_every_output_element_is_written(backend, monkeypatch):
    """Memory that comes back from an allocator often holds the right answer of an earlier call."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, 'empty_like', lambda *args, **kwargs: empty_like(*args, **kwargs).fill_(torch.nan))
    for case in ((3, 37, 9, 13, 5, 7), (1, 2, 5, 5, 21, 3), (2, 20, 40, 40, 13, 13)):
        x, weight, bias = (t.requires_grad_() for t in make(case, torch.float32))
        y = depthwise_conv2d(x, weight, bias, backend=backend)
        for tensor in (y, *torch.autograd.grad(y.sum(), (x, weight, bias))):
            assert torch.isfinite(tensor).all()


def test_changed_weights_count():
    """However weights change, the next call uses the new ones: nothing of a kernel is kept between calls."""
    layer = LargeKernelConv2d(3, 3, 31, backend='cpu/fft')
    x = torch.randn(1, 3, 20, 20)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)

    def step():
        layer(x).square().mean().backward()
        optimizer.step()

    changes = [
        step,
        lambda: layer.load_state_dict({'weight': torch.randn(3, 1, 31, 31), 'bias': torch.randn(3)}),
        lambda: setattr(layer.weight, 'data', torch.randn(3, 1, 31, 31)),
        lambda: layer.weight.data.mul_(2),
        lambda: layer.weight.data.lerp_(torch.randn(3, 1, 31, 31), 0.1),
    ]
    for change in changes:
        with torch.no_grad():
            before = layer(x)
        change()
        with torch.no_grad():
            after = layer(x)
        assert not torch.equal(before, after)
        assert_close(after, literal(x, layer.weight, layer.bias))


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (
            (torch.ones(2, 3, 3), torch.ones(2, 1, 3, 3)),
            ValueError,
            r'x must have shape \(N, C, H, W\), got \(2, 3, 3\)',
        ),
        ((torch.ones(1, 2, 3, 3), torch.ones(2, 2, 3, 3)), ValueError, r'weight must have shape \(C, 1, R, S\)'),
        (
            (torch.ones(1, 2, 3, 3), torch.ones(3, 1, 3, 3)),
            ValueError,
            r'one kernel per channel of x \(2\), got 3 kernels',
        ),
        ((torch.ones(1, 2, 3, 3), torch.ones(2, 1, 4, 3)), ValueError, r'positive odd edges.* got 4 x 3'),
        ((torch.ones(1, 2, 3, 0), torch.ones(2, 1, 3, 3)), ValueError, r'at least 1 x 1 pixels'),
        (
            (torch.ones(1, 2, 3, 3), torch.ones(2, 1, 3, 3), torch.ones(3)),
            ValueError,
            r'bias must have shape \(2,\), got \(3,\)',
        ),
        ((torch.ones(1, 2, 3, 3).int(), torch.ones(2, 1, 3, 3)), TypeError, r'x must be float16.* got torch.int32'),
        (
            (torch.ones(1, 2, 3, 3), torch.ones(2, 1, 3, 3).double()),
            TypeError,
            r'dtype of x \(torch.float32\), got torch.float64',
        ),
        ((torch.ones(1, 2, 3, 3), torch.ones(2, 1, 3, 3, device='meta')), ValueError, r'device of x \(cpu\), got meta'),
        (([[1.0]], torch.ones(2, 1, 3, 3)), TypeError, r'x must be a torch.Tensor, got list'),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        depthwise_conv2d(*arguments)


def test_unknown_backend():
    with pytest.raises(ValueError, match=r"backend must be None or one of \['triton', .*'reference'\], got 'fast'"):
        depthwise_conv2d(torch.ones(1, 2, 3, 3), torch.ones(2, 1, 3, 3), backend='fast')
    with pytest.raises(ValueError, match="name must be None or one of .* got 'fast'"), default_backend('fast'):
        pass


def test_forced_backend_says_why_it_cannot():
    x, weight = torch.ones(1, 2, 5, 5), torch.ones(2, 1, 3, 3)
    with pytest.raises(RuntimeError, match='its forward pass: cpu: it computes on the CPU, and x is on meta'):
        depthwise_conv2d(x.to('meta'), weight.to('meta'), backend='cpu')
    large = torch.ones(2, 1, 51, 51, requires_grad=True)
    y = depthwise_conv2d(torch.ones(1, 2, 40, 40), large, backend='cpu/channels_last')
    with pytest.raises(RuntimeError, match='grad_weight pass: cpu/channels_last: its weight gradient takes kernels up'):
        y.sum().backward()


def test_default_backend():
    x, weight = torch.ones(2, 4, 20, 20), torch.ones(4, 1, 15, 15)
    with dispatcher.record() as calls:
        with default_backend('cpu/fft'):
            depthwise_conv2d(x, weight)
            depthwise_conv2d(x, weight, backend='cpu/channels_last')
            assert explain(x, weight)['forward'].backend.name == 'cpu/fft'
        depthwise_conv2d(x, weight)
    assert calls == [('forward', 'cpu/fft'), ('forward', 'cpu/channels_last'), ('forward', 'cpu')]

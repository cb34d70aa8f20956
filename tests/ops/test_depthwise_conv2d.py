import pytest
import torch
import torch.nn.functional as F
from numerics import assert_close

from mmlk.ops import depthwise_conv2d, explain
from mmlk.ops.depthwise_conv2d import dispatcher, reference
from mmlk.ops.depthwise_conv2d.functional import DepthwiseConv2dFunction
from ops.cases import CASES, case_id


def literal(x, weight, bias):
    """The equation of the docstring, tap by tap in float64."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    r, s = weight.shape[2:]
    padded = F.pad(x, (s // 2, s // 2, r // 2, r // 2))
    y = bias[None, :, None, None].expand(x.shape).clone()
    for i in range(r):
        for j in range(s):
            y += weight[None, :, 0, i, j, None, None] * padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
    return y


def make(case, dtype):
    n, c, h, w, r, s = case
    return torch.randn(n, c, h, w, dtype=dtype), torch.randn(c, 1, r, s, dtype=dtype), torch.randn(c, dtype=dtype)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('case', CASES, ids=case_id)
def test_equals_the_equation(case, dtype):
    x, weight, bias = make(case, dtype)
    y = depthwise_conv2d(x, weight, bias)
    assert y.dtype == dtype
    assert_close(y, literal(x, weight, bias), dtype)


def test_hand_computed():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3)
    # Row kernel: left neighbour once, itself ten times, right neighbour a hundred times.
    weight = torch.tensor([1.0, 10.0, 100.0]).reshape(1, 1, 1, 3)
    expected = torch.tensor([[210.0, 321.0, 32.0], [540.0, 654.0, 65.0]]).reshape(1, 1, 2, 3)
    assert torch.equal(depthwise_conv2d(x, weight), expected)
    # Column kernel, with an offset.
    expected = torch.tensor([[410.5, 520.5, 630.5], [41.5, 52.5, 63.5]]).reshape(1, 1, 2, 3)
    assert torch.equal(depthwise_conv2d(x, weight.mT, torch.tensor([0.5])), expected)


@pytest.mark.parametrize('case', [case for case in CASES if case[0]], ids=case_id)
def test_gradients(case):
    """Both gradients, of autograd and of the reference passes, against autograd through the literal equation."""
    x, weight, bias = (t.requires_grad_() for t in make(case, torch.float64))
    grad = torch.randn_like(x)
    expected = torch.autograd.grad(literal(x, weight, bias), (x, weight, bias), grad)
    actual = torch.autograd.grad(depthwise_conv2d(x, weight, bias), (x, weight, bias), grad)
    for a, b in zip(actual, expected, strict=True):
        assert_close(a, b)
    assert_close(reference.grad_input(grad, x.detach(), weight.detach()), expected[0])
    assert_close(reference.grad_weight(grad, x.detach(), weight.detach()), expected[1])


def test_gradcheck():
    x, weight, bias = (t.requires_grad_() for t in make((2, 2, 5, 4, 3, 7), torch.float64))
    assert torch.autograd.gradcheck(depthwise_conv2d, (x, weight, bias))
    assert torch.autograd.gradgradcheck(depthwise_conv2d, (x, weight, bias))


def test_any_strides():
    wide = torch.randn(2, 9, 11, 16)
    weight, bias = torch.randn(4, 1, 5, 9), torch.randn(4)
    for x in (
        wide[:, 2:6, :, 3:12],
        wide.mT[:, 1:5],
        wide[:, ::2][:, :4],
        wide[:, :4].to(memory_format=torch.channels_last),
    ):
        assert not x.is_contiguous()
        assert_close(depthwise_conv2d(x, weight, bias), literal(x, weight, bias))


def test_autocast():
    x, weight, bias = make((2, 4, 9, 9, 5, 5), torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = depthwise_conv2d(x, weight.double(), bias)
        assert depthwise_conv2d(x.double(), weight.double()).dtype == torch.float64
    assert y.dtype == torch.bfloat16
    assert_close(y, literal(x, weight, bias))


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
    with pytest.raises(ValueError, match=r"backend must be one of \['reference'\] for depthwise_conv2d, got 'fast'"):
        depthwise_conv2d(torch.ones(1, 2, 3, 3), torch.ones(2, 1, 3, 3), backend='fast')


class TestDispatch:
    """A second backend for one pass: chosen there, explained, and the other passes stay."""

    @pytest.fixture
    def calls(self):
        calls = []

        def grad_weight(grad_output, x, weight):
            calls.append('grad_weight')
            return reference.grad_weight(grad_output, x, weight)

        dispatcher.register('odd', 'grad_weight', grad_weight, lambda x, w: None if len(x) % 2 else 'the batch is even')
        yield calls
        dispatcher.unregister('odd')

    def run(self, n):
        x, weight, bias = (t.requires_grad_() for t in make((n, 2, 6, 6, 3, 5), torch.float64))
        grad = torch.randn_like(x)
        actual = torch.autograd.grad(depthwise_conv2d(x, weight, bias), (x, weight, bias), grad)
        expected = torch.autograd.grad(literal(x, weight, bias), (x, weight, bias), grad)
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, b)
        return explain(x, weight)

    def test_taken_where_it_can_run(self, calls):
        choices = self.run(3)
        assert calls == ['grad_weight']
        assert {name: choice.backend.name for name, choice in choices.items()} == {
            'forward': 'reference',
            'grad_input': 'reference',
            'grad_weight': 'odd',
        }

    def test_reason_where_it_cannot(self, calls):
        choices = self.run(2)
        assert calls == []
        assert choices['grad_weight'].backend.name == 'reference'
        assert choices['grad_weight'].rejected == {'odd': 'the batch is even'}

    def test_forced_backend_never_falls_back(self, calls):
        x, weight = torch.ones(2, 2, 6, 6), torch.ones(2, 1, 3, 5)
        with pytest.raises(RuntimeError, match='cannot run its grad_weight pass: odd: the batch is even'):
            dispatcher.select('grad_weight', x, weight, 'odd')
        with pytest.raises(ValueError, match="got 'odd'"):
            depthwise_conv2d(x, weight, backend='odd')
        assert calls == []

    def test_registered_twice(self, calls):
        with pytest.raises(ValueError, match="'odd' of depthwise_conv2d already has a grad_weight pass"):
            dispatcher.register('odd', 'grad_weight', reference.grad_weight, reference.why_not)
        with pytest.raises(ValueError, match='pass_name must be one of'):
            dispatcher.register('odd', 'sideways', reference.grad_weight, reference.why_not)

    def test_double_backward_is_refused(self, calls):
        x, weight, bias = (t.requires_grad_() for t in make((1, 2, 6, 6, 3, 5), torch.float64))
        y = depthwise_conv2d(x, weight, bias)
        assert isinstance(y.grad_fn, DepthwiseConv2dFunction._backward_cls)
        (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match='once_differentiable'):
            grad.sum().backward()


def test_compiles_without_graph_breaks():
    x, weight, bias = make((1, 2, 6, 6, 5, 5), torch.float32)
    compiled = torch.compile(depthwise_conv2d, fullgraph=True, backend='eager')
    assert torch.equal(compiled(x, weight, bias), depthwise_conv2d(x, weight, bias))

"""Which backend runs, why, and what is said about it."""

import pytest
import torch
from numerics import assert_close

from mmlk.ops import depthwise_conv2d, explain
from mmlk.ops.depthwise_conv2d import dispatcher, reference
from ops.cases import literal, make


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
        x, weight, bias = (t.requires_grad_() for t in make((n, 2, 6, 6, 3, 3), torch.float64))
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
        assert choices['grad_weight'].rejected['odd'] == 'the batch is even'

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

    def test_seen_by_the_next_call(self, calls):
        """Choices are remembered; registering and unregistering forgets them."""
        assert self.run(3)['grad_weight'].backend.name == 'odd'
        dispatcher.unregister('odd')
        assert self.run(3)['grad_weight'].backend.name == 'reference'
        assert calls == ['grad_weight']


class TestChoice:
    """What is taken on this machine, and the words for it."""

    def test_pytorch_where_it_is_as_fast(self):
        x, weight = torch.ones(2, 8, 14, 14), torch.ones(8, 1, 3, 3)
        choice = explain(x, weight)['forward']
        assert choice.backend.name == 'reference'
        assert choice.rejected['cpu'] == 'F.conv2d is as fast in all three passes'
        # Without a detour: autograd is PyTorch's own.
        assert depthwise_conv2d(x, weight.requires_grad_()).grad_fn.name() == 'ConvolutionBackward0'

    def test_large_kernel(self):
        x, weight = torch.ones(1, 2, 5, 5), torch.ones(2, 1, 31, 31)
        choices = explain(x, weight)
        assert list(choices) == ['forward', 'grad_input', 'grad_weight']
        for choice in choices.values():
            assert choice.backend.name == 'cpu'
            assert set(choice.rejected) == {'triton'}
            assert choice.detail.split(',')[0] in ('channels_last', 'contiguous', 'fft')
            assert 'predicted' in choice.detail and 'ms' in choice.detail

    def test_empty(self):
        for shape in ((0, 2, 5, 5), (1, 0, 5, 5)):
            x, weight = torch.ones(shape), torch.ones(shape[1], 1, 31, 31)
            assert explain(x, weight)['forward'].backend.name == 'reference'
            assert explain(x, weight, backend='cpu')['forward'].detail == 'nothing to compute'
            assert depthwise_conv2d(x, weight, backend='cpu').shape == shape

    def test_forced_only_backends_wait_to_be_named(self):
        x, weight = torch.ones(1, 2, 5, 5), torch.ones(2, 1, 31, 31)
        assert 'cpu/fft' in dispatcher.names()
        assert not any(name.startswith('cpu/') for name in explain(x, weight)['forward'].rejected)
        assert explain(x, weight, backend='cpu/fft')['forward'].backend.name == 'cpu/fft'

    def test_many_sizes_do_not_pile_up(self, monkeypatch):
        monkeypatch.setattr('mmlk.ops.dispatch.MAX_CHOICES', 5)
        for size in range(1, 20):
            dispatcher.select('forward', torch.ones(1, 1, size, 1), torch.ones(1, 1, 3, 3))
        assert len(dispatcher._choices) <= 5

"""The ``cpu`` backend: what it chooses, and what it costs in memory."""

import pytest
import torch
from numerics import assert_close
from torch.profiler import ProfilerActivity, profile

from mmlk.ops import depthwise_conv2d
from mmlk.ops.depthwise_conv2d import dispatcher
from mmlk.ops.depthwise_conv2d.cpu import ALGORITHMS, cost, fft, onednn
from ops.cases import literal, make


def fastest(pass_name, *shape, **options):
    times = cost.predict(pass_name, cost.Call(*shape, **options))
    return min(times, key=times.get)


class TestCost:
    """Choices whose alternatives measured far slower (twice and more, on two cores of a Xeon with AVX-512)."""

    @pytest.mark.parametrize(
        ('pass_name', 'shape', 'expected'),
        [
            ('forward', (2, 384, 32, 32, 3, 3), 'contiguous'),  # 0.5 against 1.2 and 5 ms
            ('forward', (2, 384, 32, 32, 7, 7), 'contiguous'),
            ('forward', (2, 512, 14, 14, 27, 27), 'channels_last'),  # 1.1 against 47 and 3 ms
            ('forward', (2, 64, 128, 128, 51, 51), 'fft'),  # 8 against 1575 and 40 ms
            ('forward', (2, 30, 128, 128, 101, 101), 'fft'),
            ('grad_weight', (2, 384, 32, 32, 3, 3), 'contiguous'),  # 0.5 against 2.1 and 5.5 ms
            ('grad_weight', (2, 384, 32, 32, 7, 7), 'channels_last'),  # 2.3 against 21 and 4.5 ms
            ('grad_weight', (2, 64, 128, 128, 31, 31), 'fft'),  # 8 against 28 ms
            ('backward', (2, 128, 56, 56, 31, 31), 'fft'),
            ('backward', (2, 512, 14, 14, 27, 27), 'separate'),
        ],
    )
    def test_choice(self, pass_name, shape, expected, monkeypatch):
        monkeypatch.setattr(cost, '_fast_taps', lambda: 13)
        assert fastest(pass_name, *shape) == expected

    def test_rows_beyond_a_register_block(self, monkeypatch):
        """With AVX2, oneDNN's contiguous convolution is slow from 11 taps a row."""
        for taps, expected in ((13, 'contiguous'), (9, 'channels_last')):
            monkeypatch.setattr(cost, '_fast_taps', lambda taps=taps: taps)
            assert fastest('forward', 2, 256, 14, 14, 11, 11) == expected

    def test_float64_leaves_onednn(self):
        assert fastest('forward', 2, 64, 32, 32, 31, 31, double=True) == 'fft'

    def test_pixels_in_reach(self):
        assert cost._inside(5, 3) == 2 + 3 + 3 + 3 + 2
        assert cost._inside(2, 101) == 4

    def test_threads_divide_the_work(self):
        shape = (2, 64, 128, 128, 51, 51)
        one, four = (cost.predict('forward', cost.Call(*shape, threads=threads))['fft'] for threads in (1, 4))
        assert 3.5 < one / four <= 4


@pytest.mark.parametrize('size', [1, 13, 16, 17, 25, 47, 71, 73, 79, 128, 145, 178, 300, 1000])
def test_transform_length(size):
    length = fft.fft_length(size)
    assert size <= length <= max(24, 1.35 * size)
    assert length % 8 == 0


def test_taps_out_of_reach_take_no_part(monkeypatch):
    """Of a 101 x 101 kernel, 5 x 3 pixels see the middle 9 x 5 only."""
    seen = []

    class Spy:
        def __init__(self, algorithm):
            self.algorithm = algorithm

        def __getattr__(self, name):
            def call(*arguments):
                # The kernel, and not an incoming gradient or a map, is the tensor with one channel in dim 1.
                seen.extend(tuple(t.shape[2:]) for t in arguments if t is not None and t.dim() == 4 and t.shape[1] == 1)
                return getattr(self.algorithm, name)(*arguments)

            return call

    for name, algorithm in ALGORITHMS.items():
        monkeypatch.setitem(ALGORITHMS, name, Spy(algorithm))
    x, weight, bias = (t.requires_grad_() for t in make((2, 3, 5, 3, 101, 101), torch.float64))
    y = depthwise_conv2d(x, weight, bias, backend='cpu/channels_last')
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert set(seen) == {(9, 5)}
    assert_close(y, literal(x, weight, bias))
    y = depthwise_conv2d(x, weight, bias, backend='cpu/fft')
    (grad,) = torch.autograd.grad(y.sum(), weight)
    assert_close(grad, torch.autograd.grad(literal(x, weight, bias).sum(), weight)[0])
    assert not grad[:, :, :46].any() and not grad[..., :48].any()


def test_chunks_cover_everything():
    for lengths in ((16, 16), (144, 144), (2000, 2000)):
        covered = torch.zeros(37, 70, dtype=torch.int)
        for channels, images in fft.chunks(37, 70, lengths):
            for batch in images:
                covered[batch, channels] += 1
        assert (covered == 1).all()
    for layout, back in ((torch.contiguous_format, True), (torch.channels_last, True), (torch.channels_last, False)):
        for edge in (8, 60, 100, 1000):
            covered = torch.zeros(37, 70, dtype=torch.int)
            for batch, channels in onednn._chunks(covered[..., None, None].expand(-1, -1, edge, edge), layout, back):
                covered[batch, channels] += 1
            assert (covered == 1).all()


@pytest.mark.parametrize(
    ('total', 'largest', 'expected'),
    [
        (24, 8, [7, 7, 5, 5]),
        (24, 100, [13, 11]),
        (9, 9, [9]),
        (9, 8, [3, 3, 3]),
        (4, 1, [1, 1, 1, 1]),
        (3, 0, [1, 1, 1]),
    ],
)
def test_channels_are_split_into_odd_numbers_of_cache_lines(total, largest, expected):
    """As a stride between pixels, a power of two maps a whole plane onto a few sets of the cache."""
    assert onednn._odd_parts(total, largest) == expected


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('backend', ['cpu/contiguous', 'cpu/channels_last', 'cpu/fft'])
def test_many_small_chunks(backend, dtype, monkeypatch):
    """Slices of several sizes through one padded buffer, of the batch too; the last ones are smaller than the first."""
    # Of float32 planes of 24 x 24 (transform) and 9 x 7.
    for module, name in ((fft, 'CHUNK_BYTES'), (onednn, 'CHUNK_BYTES'), (onednn, 'FORWARD_CHUNK_BYTES')):
        monkeypatch.setattr(module, name, 12_000)
    monkeypatch.setattr(onednn, 'SMALL_BYTES', 0)
    tensors = make((3, 37, 9, 7, 5, 3), dtype)
    expected, actual = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    wanted = literal(*[t.double() for t in expected])
    y = depthwise_conv2d(*actual, backend=backend)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted.backward(grad.double())
    y.backward(grad)
    assert_close(y, wanted)
    for found, reference in zip(actual, expected):
        assert_close(found.grad, reference.grad)


@pytest.mark.parametrize('backend', ['cpu/contiguous', 'cpu/channels_last', 'cpu/fft'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_extra_memory(backend, dtype):
    """At most four times the activations beyond inputs and outputs, in forward and in backward."""
    edge = 101 if backend == 'cpu/fft' else 13
    x, weight, _ = make((8, 64, 64, 64, edge, edge), dtype)
    activations = x.numel() * x.element_size()
    assert peak_allocation(lambda: depthwise_conv2d(x, weight, backend=backend)) <= (1 + 4) * activations
    # PyTorch's own weight gradient is not ours to bound, and never chosen for 13 taps.
    weight.requires_grad_(backend != 'cpu/contiguous')
    y = depthwise_conv2d(x.requires_grad_(), weight, backend=backend)
    grad = torch.ones_like(y)
    assert peak_allocation(lambda: y.backward(grad)) <= (1 + 4) * activations


def peak_allocation(run) -> int:
    """Bytes allocated at the same time by PyTorch at the worst moment of ``run``."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    total = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == '[memory]':
            total += event.nbytes()
            peak = max(peak, total)
    return peak


def test_chosen_by_default():
    x, weight, _ = make((1, 4, 14, 14, 27, 27), torch.float32)
    with dispatcher.record() as calls:
        y = depthwise_conv2d(x.requires_grad_(), weight.requires_grad_())
        y.sum().backward()
    assert calls == [('forward', 'cpu'), ('grad_input', 'cpu'), ('grad_weight', 'cpu')]

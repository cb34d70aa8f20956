"""The Triton backend: its kernels in Triton's interpreter, compiled for an H100, and on a GPU where there is one."""

import json
import os
import subprocess
import sys

import pytest
import torch

from mmlk.ops.depthwise_conv2d import reference, triton_autotune, triton_op, triton_tiles
from mmlk.ops.depthwise_conv2d.triton_tiles import Shape, band_tiles, weight_tiles
from mmlk.ops.peripheral_conv2d import triton_op as peripheral
from ops import triton_checks

triton = pytest.importorskip('triton', reason='triton is not installed')

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
INTERPRETED = dict(triton_checks.checks('cpu'))
ON_GPU = dict(triton_checks.checks('cuda'))


@pytest.fixture(scope='module')
def interpreted():
    """Results of all checks in the interpreter, by name: one process, as each takes seconds to start."""
    command = [sys.executable, triton_checks.__file__, '--device', 'cpu']
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    rows = [json.loads(line) for line in process.stdout.splitlines()]
    assert rows, process.stderr
    return {row['check']: row for row in rows}


@pytest.mark.parametrize('name', INTERPRETED)
def test_interpreted(interpreted, name):
    assert 'failure' not in interpreted[name], interpreted[name]['failure']


class TestReasons:
    """Why the backend does not run, or had better not."""

    x = torch.zeros(1, 2, 5, 5)
    weight = torch.zeros(2, 1, 3, 3)

    @pytest.mark.skipif(os.environ.get('TRITON_INTERPRET') == '1', reason='the interpreter takes CPU tensors')
    def test_device(self):
        assert triton_op.why_not(self.x, self.weight) == 'it needs CUDA tensors, got cpu'

    def test_not_installed(self, monkeypatch):
        monkeypatch.setattr(triton_op, '_has_triton', lambda: False)
        assert triton_op.why_not(self.x, self.weight) == 'triton is not installed'

    def test_dtype(self, monkeypatch):
        assert 'no float64' in triton_op.why_not(self.x.double(), self.weight.double())
        monkeypatch.setenv('TRITON_INTERPRET', '1')
        assert 'bfloat16 wrongly' in triton_op.why_not(self.x.bfloat16(), self.weight.bfloat16())
        assert triton_op.why_not(self.x, self.weight) is None

    def test_sizes(self):
        large = torch.zeros(2, 1, 3, 153)
        assert triton_op.why_not(self.x, large) == 'kernel edges must be at most 151, got 3 x 153'
        tall = torch.empty(2**20, 2, 1024, 1, device='meta')
        assert 'must be below 1073741824, got (1048576, 2, 1024, 1)' in triton_op.why_not(tall, self.weight)

    def test_gpu(self, monkeypatch):
        x = torch.empty(1, 2, 5, 5, device='meta')
        monkeypatch.setattr(torch.Tensor, 'device', torch.device('cuda', 0))
        monkeypatch.setattr(triton_op, '_capability', lambda index: (7, 5))
        assert triton_op.why_not(x, self.weight) == 'it needs compute capability 8.0 or later, this GPU has 7.5'
        monkeypatch.setattr(triton_op, '_capability', lambda index: (9, 0))
        assert triton_op.why_not(x, self.weight) is None
        monkeypatch.setattr(torch.version, 'hip', '6.0')
        assert 'NVIDIA' in triton_op.why_not(x, self.weight)

    def test_prediction(self):
        def reason(name, *size, kernel):
            x = torch.empty(size, dtype=torch.bfloat16, device='meta')
            return triton_op.why_rather_not(name, x, torch.empty(size[1], 1, kernel, kernel, device='meta'))

        for name in ('forward', 'grad_input', 'grad_weight'):
            assert reason(name, 64, 128, 56, 56, kernel=31) is None
            assert "PyTorch's kernel is predicted to be as fast" in reason(name, 1, 64, 7, 7, kernel=3)
        assert "PyTorch's kernel" in reason('forward', 64, 384, 32, 32, kernel=3)
        assert reason('forward', 0, 64, 7, 7, kernel=31) == 'the input is empty'


class TestPrecision:
    """TF32 needs PyTorch's permission, which is on by default, and the user's wish, which is not."""

    def test_float32(self, monkeypatch):
        before = torch.backends.cudnn.conv.fp32_precision
        x = torch.zeros(1, 1, 1, 1)
        try:
            torch.backends.cudnn.conv.fp32_precision = 'tf32'
            assert triton_op._precision(x) == 'tf32x3'
            monkeypatch.setenv('MMLK_TRITON_TF32', '1')
            assert triton_op._precision(x) == 'tf32'
            torch.backends.cudnn.conv.fp32_precision = 'ieee'
            assert triton_op._precision(x) == 'tf32x3'
        finally:
            torch.backends.cudnn.conv.fp32_precision = before

    def test_half(self):
        assert triton_op._precision(torch.zeros(1, 1, 1, 1).half()) == '16'


class TestTiles:
    """What the tile sizes promise to the kernels, for shapes of networks and for odd ones."""

    SHAPES = [
        Shape(n, c, h, w, min(r, 2 * h - 1), min(s, 2 * w - 1), precision)
        for n, c, h, w, r, s in [*triton_checks.GPU_CASES, *triton_checks.CASES[:-1], (1, 3, 1, 300, 1, 151)]
        for precision in ('16', 'tf32', 'tf32x3')
    ]

    @pytest.mark.parametrize('shape', SHAPES, ids=str)
    def test_cover(self, shape):
        assert band_tiles(shape) and weight_tiles(shape)
        for tiles in band_tiles(shape):
            assert tiles.lead >= shape.s // 2  # the first column of the halo is loaded
            assert tiles.chunks * tiles.bk >= tiles.lead + tiles.wt + shape.s // 2  # and the last
            assert tiles.wt % shape.lanes == 0
            # 48 KiB more than the pipeline's for the parts into which tf32x3 splits.
            assert tiles.stages * (tiles.bm + tiles.wt * tiles.g) * tiles.bk * shape.itemsize <= 96 * 1024
        for tiles in weight_tiles(shape):
            assert tiles.lead >= shape.s // 2
            assert tiles.chunks * tiles.bi >= tiles.lead + min(tiles.wt + shape.s // 2, shape.w)
            assert tiles.windows * tiles.bi >= tiles.bi + tiles.wt - 1  # every diagonal has a place
            assert tiles.bm % tiles.bn == 0

    def test_orientation(self):
        """A high stripe runs on its side, a wide one as it is; a copy of the map must be worth it."""
        high = Shape(64, 128, 56, 56, 51, 5, '16')
        x = torch.empty(64, 128, 56, 56, dtype=torch.bfloat16, device='meta')
        assert triton_op._orientation('forward', high, (x,), torch.contiguous_format)
        assert not triton_op._orientation('forward', high.swapped(), (x,), torch.contiguous_format)
        square = Shape(64, 128, 56, 56, 31, 31, '16')
        assert not triton_op._orientation('forward', square, (x,), torch.contiguous_format)
        # A transposed map has its rows the other way round: no copy on the way in.
        assert triton_op._orientation('grad_weight', square, (x.mT, x.mT), None)


class TestPeripheral:
    """Reasons and tiles of the collapsed rows; their values are among the interpreted checks."""

    GRID_51 = (9, 8, 4, 2, 1, 1, 1, 1, 1, 2, 4, 8, 9)
    GRID_101 = (17, 16, 8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 17)

    def make(self, n, c, size, grid, dtype):
        x = torch.empty(n, c, size, size, dtype=dtype, device='meta')
        return x, torch.empty(c, 1, len(grid), len(grid), dtype=dtype, device='meta'), grid

    def test_reasons(self, monkeypatch):
        monkeypatch.setenv('TRITON_INTERPRET', '1')
        assert peripheral.why_not(*self.make(1, 2, 9, (2, 1, 2), torch.float32)) is None
        assert 'at most 151, got 153' in peripheral.why_not(*self.make(1, 2, 9, (76, 1, 76), torch.float32))
        large = self.make(8, 48, 128, self.GRID_101, torch.float32)
        small = self.make(1, 2, 9, (2, 1, 2), torch.float32)
        for name in ('forward', 'grad_input', 'grad_weight'):
            assert peripheral.why_rather_not(name, *large) is None
            assert 'the dense kernel is predicted to be as fast' in peripheral.why_rather_not(name, *small)

    @pytest.mark.parametrize('size', [1, 7, 14, 56, 128])
    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32], ids=str)
    def test_one_row_per_block(self, size, dtype):
        for grid in (self.GRID_51, self.GRID_101):
            x, _, _ = self.make(2, 4, size, grid, dtype)
            assert peripheral.band_candidates(x, grid) and peripheral.weight_candidates(x, grid)


class TestAutotune:
    """Off by default; on, the fastest is kept on disk and read again."""

    CANDIDATES = band_tiles(Shape(2, 2, 9, 9, 5, 5, '16'))[:3]

    def choose(self, launch=None):
        class OnGpu:
            is_cuda, device = True, None

        return triton_autotune.choose('forward', Shape(2, 2, 9, 9, 5, 5, '16'), self.CANDIDATES, launch, OnGpu())

    def test_off(self):
        assert self.choose() == self.CANDIDATES[0]

    def test_kept(self, monkeypatch, tmp_path):
        monkeypatch.setenv('MMLK_TRITON_AUTOTUNE', '1')
        monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path / 'cache'))
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'GPU')
        monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
        monkeypatch.setattr(triton_autotune, '_chosen', None)
        assert self.choose() == self.CANDIDATES[0]  # a graph is being captured: nothing may be timed
        monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
        times = dict(zip(self.CANDIDATES, (3.0, 1.0, 2.0)))
        monkeypatch.setattr(triton_autotune, '_time', lambda launch, tiles: times[tiles])
        assert self.choose() == self.CANDIDATES[1]
        assert os.listdir(tmp_path / 'cache') == ['mmlk_tiles.json']

        monkeypatch.setattr(triton_autotune, '_chosen', None)
        monkeypatch.setattr(triton_autotune, '_time', None)  # must not be called again
        assert self.choose() == self.CANDIDATES[1]
        monkeypatch.setattr(triton_autotune, '_chosen', None)
        path = triton_autotune.cache_file()
        path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), [1, 2, 3])))
        assert self.choose() == self.CANDIDATES[0]  # tiles nobody checked are not run


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32], ids=str)
def test_compiles_for_h100(dtype, monkeypatch, tmp_path):
    """Without a GPU: both products become tensor-core instructions fed by 16-byte asynchronous copies."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mmlk.ops.depthwise_conv2d import triton_kernels

    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    names = {torch.bfloat16: '*bf16', torch.float32: '*fp32'}
    compiled = {}

    class Recorder:
        def __init__(self, name):
            self.name, self.kernel = name, getattr(triton_kernels, name)

        def __getitem__(self, grid):
            def launch(*args, num_warps=4, num_stages=3, **constants):
                positional = dict(zip(self.kernel.arg_names, args))
                signature = {n: names[a.dtype] if isinstance(a, torch.Tensor) else 'i32' for n, a in positional.items()}
                aligned = {(i,): [['tt.divisibility', 16]] for i, a in enumerate(args) if isinstance(a, torch.Tensor)}
                source = ASTSource(self.kernel, signature | dict.fromkeys(constants, 'constexpr'), constants, aligned)
                options = {'num_warps': num_warps, 'num_stages': num_stages}
                compiled[self.name] = triton.compile(source, target=GPUTarget('cuda', 90, 32), options=options).asm

            return launch

    class Kernels:
        def __getattr__(self, name):
            return Recorder(name)

    monkeypatch.setattr(triton_op, '_kernels', Kernels)
    x = torch.empty(64, 128, 56, 56, dtype=dtype, device='meta')
    weight = torch.empty(128, 1, 31, 31, dtype=dtype, device='meta')
    triton_op.forward(x, weight, weight[:, 0, 0, 0])
    triton_op.grad_weight(x, x, weight)
    assert sorted(compiled) == ['band_dw_kernel', 'band_fwd_kernel', 'spread_taps_kernel', 'sum_dw_kernel']
    for name in ('band_fwd_kernel', 'band_dw_kernel'):
        assert 'wgmma.mma_async' in compiled[name]['ptx'], name
        assert 'cp.async.cg.shared.global' in compiled[name]['ptx'], name  # .cg: 16 bytes


@pytest.mark.cuda
@cuda
class TestGpu:
    @pytest.fixture(autouse=True)
    def nan(self, monkeypatch):
        monkeypatch.setattr(triton_op, '_empty', triton_op._empty)  # put back afterwards
        triton_checks.fill_with_nan()

    @pytest.mark.parametrize('name', ON_GPU)
    def test_on_gpu(self, name):
        ON_GPU[name]()

    def run(self, x, weight, bias, grad):
        return (
            triton_op.forward(x, weight, bias),
            triton_op.grad_input(grad, x, weight),
            triton_op.grad_weight(grad, x, weight),
        )

    def test_cuda_graph(self):
        arguments = triton_checks.make((2, 4, 28, 28, 13, 5), torch.float16, 'cuda')
        self.run(*arguments)  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = self.run(*arguments)
        for argument in arguments:
            argument.copy_(torch.randn_like(argument))
        graph.replay()
        for actual, expected in zip(results, self.run(*arguments), strict=True):
            assert torch.equal(actual, expected)

    def test_side_stream(self):
        arguments = triton_checks.make((8, 64, 56, 56, 31, 31), torch.float16, 'cuda')
        expected = self.run(*arguments)
        source = arguments[0].clone()
        arguments[0].zero_()
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)
            arguments[0].copy_(source)
            actual = self.run(*arguments)  # on the default stream it would see the zeros
        stream.synchronize()
        for a, e in zip(actual, expected, strict=True):
            assert torch.equal(a, e)

    def test_offsets_beyond_31_bits(self):
        n, c, size = 3, 700, 1024
        assert n * c * size * size > 2**31
        if torch.cuda.mem_get_info()[0] < 24 * 2**30:
            pytest.skip('needs 24 GiB of free GPU memory')
        x = torch.randn(n, c, size, size, dtype=torch.float16, device='cuda')
        weight, grad = torch.randn(c, 1, 7, 7, dtype=torch.float16, device='cuda'), x.flip(0)
        y, dx, dw = self.run(x, weight, None, grad)
        last = [tensor[..., -1:, :, :].cpu().double() for tensor in (x, grad)]
        kernel = weight[-1:].cpu().double()
        for actual, expected in (
            (y[:, -1:], reference.forward(last[0], kernel, None)),
            (dx[:, -1:], reference.grad_input(last[1], last[0], kernel)),
            (dw[-1:], reference.grad_weight(last[1], last[0], kernel)),
        ):
            assert triton_checks.relative_error(actual.cpu(), expected) <= triton_checks.TOLERANCE[torch.float16]


def test_predictions_are_finite():
    """Times are positive, and grow with the batch: the model ranks, it must not overflow or divide by nothing."""
    for name in ('forward', 'grad_input', 'grad_weight'):
        times = [triton_tiles.predicted_time(name, Shape(n, 64, 56, 56, 31, 31, '16')) for n in (8, 32, 128, 512)]
        assert 0 < times[0] < times[1] < times[2] < times[3]


def test_interpreter_waits_to_be_named(monkeypatch):
    """With TRITON_INTERPRET=1 for one's own kernels, training on the CPU must not crawl through ours."""
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    x, weight = torch.empty(8, 4, 64, 64), torch.empty(4, 1, 51, 51)
    for name in ('forward', 'grad_input', 'grad_weight'):
        assert 'interpreter is for tests' in triton_op.why_rather_not(name, x, weight)
        grid = (9, 8, 4, 2, 1, 1, 1, 1, 1, 2, 4, 8, 9)
        assert 'interpreter is for tests' in peripheral.why_rather_not(name, x, weight[..., :13, :13], grid)

"""tools/benchmark_ops.py end to end on tiny shapes: table, result file, wrong results, bad input."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from tool_runner import run_tool

from mmlk.benchmarks import ops, timing
from mmlk.benchmarks.results import find_errors
from mmlk.benchmarks.roofline import PASSES
from mmlk.cli import benchmark_ops
from mmlk.ops.depthwise_conv2d import dispatcher, reference
from mmlk.ops.peripheral_conv2d import dense
from mmlk.ops.peripheral_conv2d import dispatcher as peripheral_dispatcher

#: Tiny, with a map that is no square and a kernel that is larger than the map; of too many channels for the bfloat16
#: convolutions of PyTorch that are not run.
SHAPES = ('--shapes', '1x17x4x7x9x5')
PARTS = {'backward': {'grad_input', 'grad_weight'}, 'forward_backward': {'forward', 'grad_input', 'grad_weight'}}
FAST = ('--device', 'cpu', '--quick', '--seconds', '0.002')


@pytest.fixture(scope='module', autouse=True)
def small_ceilings():
    """The rates of the machine are not what is tested here; measuring them properly takes a second and a gigabyte.

    Neither is their precision, for which the garbage of the whole test session would be collected before each.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, 'COPY_BYTES', 1 << 22)
        patch.setitem(timing.GEMM_EDGE, 'cpu', 128)
        patch.setattr(benchmark_ops, 'TOUCHED_BYTES', 1 << 20)
        patch.setattr(timing, 'gc', SimpleNamespace(collect=int, isenabled=bool, disable=int))
        yield


def benchmark(*arguments):
    return run_tool('benchmark_ops.py', *FAST, *arguments)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp('results') / 'ops.json'
    arguments = ('--dtype', 'fp32', 'bf16', '--layout', 'contiguous', 'channels_last', '--json', path)
    result = benchmark(*SHAPES, *arguments)
    assert result.code == 0, result.err
    return result, json.loads(path.read_text())


def test_a_row_per_shape_dtype_layout_and_pass(written):
    result, results = written
    cases = [
        (tuple(row['shape'].values()), row['dtype'], row['layout'], row['pass'], row['ours']['repeats'] > 0)
        for row in results['rows']
    ]
    assert cases == [
        ((1, 17, 4, 7, 9, 5), dtype, layout, name, True)
        for dtype in ('float32', 'bfloat16')
        for layout in ('contiguous', 'channels_last')
        for name in PASSES
    ]
    assert 'the batch of a shape is at most 2' in result.out
    for text in ('grad_weight', 'x contig.', 'x roofline', 'measured ceilings, bf16', 'the rule holds'):
        assert text in result.out


def test_figures_belong_together(written):
    for row in written[1]['rows']:
        ours = row['ours']['median_ms']
        times = {name: record['median_ms'] for name, record in row['baselines'].items()}
        own_input = {name: times[name] for name in ('contiguous', 'channels_last', 'fft')}
        best = min(own_input.values())
        assert row['best'] == min(own_input, key=own_input.get)
        assert row['ratio_contiguous'] == pytest.approx(times['contiguous'] / ours)
        assert row['ratio_best'] == pytest.approx(best / ours)
        assert row['limit_ms'] == pytest.approx(1.1 * best + (0.3 if row['pass'] == 'forward' else 0.5))
        assert row['within_limit'] == (ours <= row['limit_ms'])
        assert row['distance_to_roofline'] == pytest.approx(ours / row['roofline']['bound_ms'])
        assert 0 < row['error'] <= row['tolerance']
        parts = {
            'backward': {'grad_input', 'grad_weight'},
            'forward_backward': {'forward', 'grad_input', 'grad_weight'},
        }
        assert set(row['backend']) == parts.get(row['pass'], {row['pass']})


def test_the_schema_accepts_it_and_no_damaged_one(written):
    results = written[1]
    assert find_errors(results) == []
    for name in ('ours', 'error', 'baselines', 'within_limit', 'backend'):
        damaged = copy.deepcopy(results)
        del damaged['rows'][3][name]
        assert find_errors(damaged), name
    damaged = copy.deepcopy(results)
    damaged['rows'][0]['baselines']['fft'] = {'skipped': 'slow', 'median_ms': 1.0}
    assert find_errors(damaged)
    damaged['rows'][0]['baselines']['fft'] = {'skipped': 'slow'}
    assert find_errors(damaged) == []


@pytest.fixture
def broken_backend():
    """Wrong in the last channel of the weight gradient only."""

    def grad_weight(grad_output, x, weight):
        result = reference.grad_weight(grad_output, x, weight)
        result[-1] *= 1.01
        return result

    for name in ('forward', 'grad_input'):
        dispatcher.register('broken', name, getattr(reference, name), reference.why_not)
    dispatcher.register('broken', 'grad_weight', grad_weight, reference.why_not)
    yield
    dispatcher.unregister('broken')


def test_a_wrong_result_has_no_time(broken_backend, tmp_path):
    path = tmp_path / 'ops.json'
    result = benchmark('--shapes', '2x4x6x6x3', '--backend', 'broken', '--json', path)
    assert result.code == 1
    rows = {line.split('│')[2].strip(): line for line in result.out.splitlines() if line.count('│') > 5}
    for name in PASSES:
        cells = [cell.strip() for cell in rows[name].split('│')]
        if name in ('forward', 'grad_input'):
            assert float(cells[4]) > 0
            assert float(cells[9]) > 0
        else:
            assert cells[4] == 'WRONG'
            assert cells[5:12] == [''] * 7
    assert 'error: N2-C4-H6xW6-K3x3 float32 grad_weight: the result differs from float64 by' in result.err
    assert f'{path} is not written: a result is wrong' in result.out
    assert not path.exists()


def test_a_case_that_a_forced_backend_cannot_run(tmp_path):
    def why_not(x, weight):
        return None if weight.shape[2] == 3 else 'the kernel is not 3'

    for name in ('forward', 'grad_input', 'grad_weight'):
        dispatcher.register('three', name, getattr(reference, name), why_not)
    try:
        path = tmp_path / 'ops.json'
        result = benchmark('--shapes', '1x2x6x6x3,1x2x6x6x5', '--backend', 'three', '--json', path)
        rows = json.loads(path.read_text())['rows']
        none = benchmark('--shapes', '1x2x6x6x5', '--backend', 'three')
    finally:
        dispatcher.unregister('three')
    assert result.code == 0
    assert [('skipped' in row) for row in rows] == [False] * 5 + [True] * 5
    assert rows[0]['backend'] == {'forward': {'name': 'three', 'detail': ''}}
    assert 'three: the kernel is not 3' in rows[-1]['skipped']
    assert 'nothing could be measured' in none.error


class TestResume:
    """What was measured is on the disk after every row; a later run measures what is missing."""

    TWO = '1x2x6x6x3,1x2x6x6x5'

    def stop_after(self, rows, monkeypatch):
        """Interrupt the benchmark as Ctrl-C does."""
        measure, seen = benchmark_ops.measure, []

        def interrupted(*arguments):
            for row in measure(*arguments):
                if len(seen) == rows:
                    raise KeyboardInterrupt
                seen.append(row)
                yield row

        monkeypatch.setattr(benchmark_ops, 'measure', interrupted)
        return seen

    def test_interrupted_and_continued(self, tmp_path, monkeypatch):
        path, part = tmp_path / 'ops.json', tmp_path / 'ops.json.part'
        with monkeypatch.context() as patch:
            seen = self.stop_after(7, patch)
            stopped = benchmark('--shapes', self.TWO, '--json', path)
        assert stopped.code == 130
        assert 'continue with the same command and --resume' in stopped.err
        assert list(tmp_path.iterdir()) == [part]
        kept = json.loads(part.read_text())
        assert find_errors(kept) == []
        assert kept['rows'] == seen
        result = benchmark('--shapes', self.TWO, '--json', path, '--resume')
        assert result.code == 0, result.err
        assert '1 of 2 cases are in' in result.out
        assert list(tmp_path.iterdir()) == [path]
        results = json.loads(path.read_text())
        # The first shape as it was; the second, of which two rows were there, anew and whole.
        assert results['rows'][:5] == seen[:5]
        assert [(row['shape']['r'], row['pass']) for row in results['rows']] == [
            (kernel, name) for kernel in (3, 5) for name in PASSES
        ]
        assert results['ceilings'] == kept['ceilings']
        assert results['run']['date'] == kept['run']['date']
        assert results['settings']['command'] == kept['settings']['command']
        assert results['settings']['seconds_total'] > kept['settings']['seconds_total']

    def test_a_finished_file_grows(self, written, tmp_path):
        path = tmp_path / 'ops.json'
        path.write_text(json.dumps(written[1]))
        result = benchmark('--shapes', '1x2x6x6x3', '--json', path, '--resume')
        assert result.code == 0, result.err
        results = json.loads(path.read_text())
        assert results['rows'][:-5] == written[1]['rows']
        assert len(results['settings']['command'].split(' && ')) == 2

    def test_a_run_that_measures_nothing_new(self, written, tmp_path):
        path = tmp_path / 'ops.json'
        path.write_text(json.dumps(written[1]))
        result = benchmark(*SHAPES, '--json', path, '--resume')
        assert '1 of 1 cases are in' in result.out
        assert json.loads(path.read_text())['rows'] == written[1]['rows']

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (
                lambda results: results['settings'].update(seconds=9.0),
                'was measured with seconds 9.0, this run has 0.002',
            ),
            (
                lambda results: results['run']['machine'].update(cpu='another'),
                "was measured with machine {'cpu': 'another'}, this run has {'cpu': '",
            ),
            (
                lambda results: results['rows'].clear(),
                'is no result file of tools/benchmark_ops.py ($.rows has 0 items',
            ),
        ],
    )
    def test_rows_of_another_run_are_refused(self, change, message, written, tmp_path):
        path = tmp_path / 'ops.json'
        results = copy.deepcopy(written[1])
        change(results)
        path.write_text(json.dumps(results))
        assert message in benchmark(*SHAPES, '--json', path, '--resume').error
        assert json.loads(path.read_text()) == results

    def test_bad_input(self, tmp_path):
        assert benchmark(*SHAPES, '--resume').error.startswith('--resume needs --json FILE')
        path = tmp_path / 'ops.json'
        path.write_text('{')
        assert f'--resume: {path} is no JSON' in benchmark(*SHAPES, '--json', path, '--resume').error


@pytest.fixture(scope='module')
def written_peripheral(tmp_path_factory):
    path = tmp_path_factory.mktemp('results') / 'peripheral.json'
    result = benchmark('--op', 'peripheral', '--shapes', '1x3x12x9x3+1+1+2', '--json', path)
    assert result.code == 0, result.err
    return result, json.loads(path.read_text())


class TestPeripheral:
    def test_rows(self, written_peripheral):
        result, results = written_peripheral
        assert results['settings']['op'] == 'peripheral'
        assert [row['pass'] for row in results['rows']] == list(PASSES)
        for row in results['rows']:
            assert (tuple(row['shape'].values()), row['grid']) == ((1, 3, 12, 9, 7, 7), [3, 1, 1, 2])
            assert set(row['backend']) == PARTS.get(row['pass'], {row['pass']})
            times = {name: record['median_ms'] for name, record in row['baselines'].items()}
            assert set(times) == {'dense', 'contiguous', 'channels_last', 'channels_last_preconverted', 'fft'}
            del times['channels_last_preconverted']
            assert row['best'] == min(times, key=times.get)
            assert row['ratio_best'] == pytest.approx(times[row['best']] / row['ours']['median_ms'])
            assert all(0 < record['error'] <= record['tolerance'] for record in (row, *row['baselines'].values()))
        for text in ('peripheral_conv2d, backend: chosen per pass', 'x dense', 'best of dense, contiguous'):
            assert text in result.out

    def test_the_dense_choice_says_what_it_runs(self, written_peripheral):
        choice = written_peripheral[1]['rows'][0]['backend']['forward']
        assert choice['name'] == 'dense'
        assert choice['detail'].split()[0] in dispatcher.names()

    def test_the_schema_knows_a_grid(self, written_peripheral):
        assert find_errors(written_peripheral[1]) == []
        damaged = copy.deepcopy(written_peripheral[1])
        damaged['rows'][0]['grid'] = []
        assert find_errors(damaged)

    def test_a_wrong_gradient_of_the_parameters_has_no_time(self, tmp_path):
        """A backend that forgets one tap of a group."""

        def grad_weight(grad_output, x, weight, grid):
            result = dense.grad_weight(grad_output, x, weight, grid)
            result[:, :, -1, -1] *= 0.75
            return result

        for name, run in (('forward', dense.forward), ('grad_input', dense.grad_input), ('grad_weight', grad_weight)):
            peripheral_dispatcher.register('broken', name, run, dense.why_not)
        try:
            arguments = ('--op', 'peripheral', '--shapes', '2x4x6x6x2+1+2', '--backend', 'broken')
            result = benchmark(*arguments, '--json', tmp_path / 'results.json')
        finally:
            peripheral_dispatcher.unregister('broken')
        assert result.code == 1
        assert result.out.count('WRONG') == 3
        assert 'N2-C4-H6xW6-K5x5 float32 grad_weight: the result differs from float64 by' in result.err
        assert list(tmp_path.iterdir()) == []

    def test_list(self):
        result = run_tool('benchmark_ops.py', '--op', 'peripheral', '--list')
        assert result.code == 0
        assert '17+8+4+2+1+1+1+1+1+1+1+2+4+8+17' in result.out
        assert 'RepLK' not in result.out

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (('--backend', 'reference'), '--backend must be one of shared/triton, shared/cpu, dense, got reference'),
            (('--shapes', '2x4x6x6x3'), '--shapes 2x4x6x6x3 must have positive edges and a sharing grid'),
        ],
    )
    def test_bad_input(self, arguments, message):
        assert benchmark('--op', 'peripheral', *arguments).error.startswith(message)


def test_results_without_an_op_are_of_the_depthwise_one(written):
    results = copy.deepcopy(written[1])
    assert results['settings'].pop('op') == 'depthwise'
    assert find_errors(results) == []


def test_a_slow_baseline_is_run_once(monkeypatch):
    """With a limit of zero seconds everything is slow: one run each, forward + backward made of its parts."""
    monkeypatch.setattr(timing, 'SLOW_SECONDS', 0.0)
    monkeypatch.setattr(timing, '_FEWEST', ())
    monkeypatch.setattr(ops, 'SLOW_SECONDS', 0.0)
    shape = ops.Shape('given', 1, 2, 6, 6, 3, 3)
    ceilings = timing.Ceilings(1e9, 1e9, 1e9)
    rows = ops.measure(shape, torch.float32, 'contiguous', timing.CpuClock(), ceilings, ops.Settings(seconds=0.01))
    notes = {row['pass']: row['baselines']['contiguous'] for row in rows}
    assert [record['repeats'] for record in notes.values()] == [1] * 5
    assert notes['forward']['note'] == notes['grad_input']['note'] == 'first run'
    assert notes['forward_backward']['note'] == 'forward, then backward, first runs'
    total = notes['forward']['median_ms'] + notes['backward']['median_ms']
    assert notes['forward_backward']['median_ms'] == pytest.approx(total)


def test_float16_on_the_cpu_says_what_is_not_run():
    result = benchmark('--shapes', '1x2x6x6x3', '--dtype', 'fp16')
    assert result.code == 0, result.err
    assert '- not run: F.conv2d does not return for float16 depthwise convolutions on some CPUs' in result.out


def test_list():
    result = run_tool('benchmark_ops.py', '--list')
    assert result.code == 0
    assert 'PeLK-101-T s1 @512' in result.out
    assert '51 x 5' in result.out


def test_help_has_examples():
    result = run_tool('benchmark_ops.py', '--help')
    assert result.code == 0
    assert 'python tools/benchmark_ops.py --quick' in result.out


class TestBadInput:
    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (('--shapes', 'ResNet'), "--shapes 'ResNet' is part of no shape"),
            (('--shapes', '2x4x6x6x4'), '--shapes 2x4x6x6x4 must have positive edges and an odd kernel'),
            (('--backend', 'fastest'), '--backend must be one of '),
            (('--json', '.'), '--json must be a file to write'),
        ],
    )
    def test_one_sentence(self, arguments, message):
        assert benchmark(*arguments).error.startswith(message)

    @pytest.mark.skipif('torch.cuda.is_available()', reason='there is a CUDA device')
    def test_no_gpu(self):
        error = run_tool('benchmark_ops.py', '--device', 'cuda').error
        assert error.startswith('--device cuda needs a CUDA device that torch can use, found none')

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (('--batch', '0'), 'argument --batch: must be a whole number of 1 or more, got 0'),
            (('--threads', 'all'), 'argument --threads: must be a whole number of 1 or more, got all'),
            (('--seconds', '-1'), 'argument --seconds: must be a number above 0, got -1'),
            (('--dtype', 'int8'), "argument --dtype: invalid choice: 'int8'"),
        ],
    )
    def test_argparse(self, arguments, message):
        result = benchmark(*arguments)
        assert result.code == 2
        assert message in result.err

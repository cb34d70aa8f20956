"""Every baseline computes the op, and every pass runs the implementation it is about."""

import pytest
import torch
from ops.cases import CASES, case_id

from mmlk.benchmarks.accuracy import Expectation
from mmlk.benchmarks.contenders import BASELINES, PRECONVERTED, make_case, make_contenders
from mmlk.benchmarks.roofline import PASSES
from mmlk.ops.peripheral_conv2d import dispatcher

RESULTS = {
    'forward': {'y'},
    'grad_input': {'dx'},
    'grad_weight': {'dw'},
    'backward': {'dx', 'dw'},
    'forward_backward': {'y', 'dx', 'dw'},
}


#: N, C, H, W, R, S and the sharing grid; the second kernel is wider than the map.
SHARED = [((2, 3, 12, 9, 7, 7), (4, 1, 2)), ((2, 4, 5, 6, 21, 21), (7, 2, 1, 1, 1, 2, 7))]


def make(case, dtype=torch.float64, layout='contiguous', grid=()):
    tensors = make_case(case, dtype, layout, 'cpu', torch.Generator().manual_seed(0), grid)
    ours, baselines = make_contenders(tensors, None, lambda: None)
    return tensors, {'ours': ours, **baselines}


def check_all(tensors, contenders):
    """Every pass of every contender gives what the op is defined to give."""
    expectation = Expectation(tensors.x, tensors.weight, tensors.grad, tensors.grid)
    for name, contender in contenders.items():
        for pass_name in PASSES:
            contender.prepare(pass_name)
            # Twice: the graph of the backward passes is kept.
            for _ in range(2):
                results = contender.run(pass_name)
                assert set(results) == RESULTS[pass_name]
                for result, value in results.items():
                    assert expectation.error(result, value) <= 1e-12, (name, pass_name, result)


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('case', [case for case in CASES if case[0]], ids=case_id)
def test_all_compute_the_op(case, layout):
    tensors, contenders = make(case, layout=layout)
    assert set(contenders) == {'ours', *BASELINES['depthwise'], PRECONVERTED}
    check_all(tensors, contenders)


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize(('case', 'grid'), SHARED, ids=['K7', 'K21'])
def test_all_compute_the_sharing_op(case, grid, layout):
    tensors, contenders = make(case, layout=layout, grid=grid)
    assert tensors.weight.shape == (case[1], 1, len(grid), len(grid))
    assert set(contenders) == {'ours', *BASELINES['peripheral'], PRECONVERTED}
    check_all(tensors, contenders)


def test_dense_expands_and_the_baselines_of_pytorch_do_not_use_the_op():
    case, grid = SHARED[0]
    tensors = make_case(case, torch.float32, 'contiguous', 'cpu', torch.Generator().manual_seed(0), grid)
    ours, contenders = make_contenders(tensors, 'shared/cpu', lambda: None)
    contenders['ours'] = ours
    for name, backend in (('ours', 'shared/cpu'), ('dense', 'dense')):
        with dispatcher.record() as calls:
            contenders[name].run('forward_backward')
        assert calls == [(part, backend) for part in ('forward', 'grad_input', 'grad_weight')]
    with dispatcher.record() as calls:
        for name in BASELINES['peripheral'][1:]:
            contenders[name].run('forward_backward')
    assert calls == []


def test_formats_the_baselines_start_from():
    channels_last = torch.channels_last
    tensors, contenders = make((2, 4, 6, 6, 3, 3))
    assert tensors.x.is_contiguous()
    assert contenders['channels_last'].x.is_contiguous()
    assert contenders[PRECONVERTED].x.is_contiguous(memory_format=channels_last)
    assert contenders['contiguous'].run('forward')['y'].is_contiguous()
    assert contenders['channels_last'].run('forward')['y'].is_contiguous(memory_format=channels_last)
    assert contenders['fft'].run('forward')['y'].is_contiguous()
    tensors, contenders = make((2, 4, 6, 6, 3, 3), layout='channels_last')
    assert all(c.x.is_contiguous(memory_format=channels_last) for c in contenders.values())
    assert contenders['contiguous'].run('forward')['y'].is_contiguous()


def test_what_never_returns_is_not_run():
    _, contenders = make((1, 2, 6, 6, 3, 3), torch.float16)
    for name in ('contiguous', 'channels_last', PRECONVERTED):
        assert 'does not return for float16' in contenders[name]
    assert contenders['fft'].run('forward')['y'].dtype == torch.float16
    assert contenders['ours'].run('forward')['y'].dtype == torch.float16

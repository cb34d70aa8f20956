"""SyncBN on the CPU: two processes with parts of a batch compute what one computes with BatchNorm on the whole."""

from functools import partial

import pytest
import torch
import torch.distributed as dist
from children import in_children
from torch import nn

from mmlk.nn import CpuSyncBatchNorm, sync_batch_norm_on_cpu

#: Cases: shape of the whole batch, samples of the first process, arguments, number format.
CASES = {
    'halves': ((4, 3, 5, 5), 2, {}, torch.float64),
    'uneven': ((5, 3, 4, 4), 1, {}, torch.float64),
    'none in the first': ((3, 3, 4, 4), 0, {}, torch.float64),
    'two axes': ((6, 3), 3, {}, torch.float64),
    'five axes': ((2, 3, 2, 3, 2), 1, {}, torch.float64),
    'cumulative': ((4, 3, 5, 5), 2, dict(momentum=None), torch.float64),
    'no weights': ((4, 3, 5, 5), 2, dict(affine=False), torch.float64),
    'no statistics': ((4, 3, 5, 5), 2, dict(track_running_stats=False), torch.float64),
    'float32': ((4, 3, 5, 5), 2, {}, torch.float32),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def batch(name, step):
    """Values far from zero and gradients, the same in all processes."""
    shape, _, _, dtype = CASES[name]
    generator = torch.Generator().manual_seed(step)
    return tuple(
        scale * torch.randn(shape, generator=generator, dtype=dtype) + shift for scale, shift in ((3, 50), (1, 0))
    )


def layer(cls, name):
    _, _, arguments, dtype = CASES[name]
    norm = cls(3, **arguments).to(dtype)
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 1.0, -2.0]))
            norm.bias.copy_(torch.tensor([1.0, 0.0, 3.0]))
    return norm


def run(norm, name, part):
    """Two steps; outputs, gradients and statistics."""
    found = {}
    for step in range(2):
        x, gradient = (value[part] for value in batch(name, step))
        x.requires_grad_()
        y = norm(x)
        (y * gradient).sum().backward()
        found |= {f'output {step}': y.detach(), f'gradient {step}': x.grad}
    found |= {f'gradient of {key}': value.grad for key, value in norm.named_parameters()}
    found |= {key: value.clone() for key, value in norm.state_dict().items()}
    found['evaluated'] = norm.eval()(batch(name, 2)[0]).detach()
    return found


class Plain(nn.BatchNorm2d):
    """BatchNorm of any number of axes."""

    def _check_input_dim(self, input):
        pass


def parts(name):
    first = CASES[name][1]
    return slice(0, first), slice(first, None)


def as_process(folder, rank):
    dist.init_process_group('gloo', init_method=f'file://{folder / "store"}', rank=rank, world_size=2)
    found = {}
    for name in CASES:
        model = nn.Sequential(layer(nn.SyncBatchNorm, name))
        assert sync_batch_norm_on_cpu(model) == 1 and sync_batch_norm_on_cpu(model) == 0
        found[name] = run(model[0], name, parts(name)[rank])
    with pytest.raises(ValueError, match='2 or more values per channel in all processes, got 1'):
        CpuSyncBatchNorm(3)(torch.ones(1 - rank, 3))
    half = CpuSyncBatchNorm(3)(batch('float32', 0)[0][parts('float32')[rank]].bfloat16())
    assert half.dtype == torch.bfloat16
    torch.save(found, folder / f'process{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """What both processes found, by case."""
    folder = tmp_path_factory.mktemp('sync_batch_norm')
    assert in_children(*(partial(as_process, folder, rank) for rank in range(2))) == [0, 0]
    return [torch.load(folder / f'process{rank}.pth', weights_only=True) for rank in range(2)]


@pytest.mark.parametrize('name', CASES)
def test_two_processes_equal_one(name, two):
    dtype = CASES[name][3]
    whole = run(layer(Plain, name), name, slice(None))
    found = [each[name] for each in two]
    for key, expected in whole.items():
        if key.startswith(('output', 'gradient ')) and not key.startswith('gradient of'):
            got = torch.cat([each[key] for each in found])
        elif key.startswith('gradient of'):
            # Each process has that of its samples, as for all parameters.
            got = found[0][key] + found[1][key]
        elif key == 'evaluated' and not CASES[name][2].get('track_running_stats', True):
            continue
        else:
            assert torch.equal(found[0][key], found[1][key]), key
            got = found[0][key]
        assert got.dtype == expected.dtype
        if expected.dtype == torch.int64:
            assert torch.equal(got, expected)
        else:
            scale = max(1.0, expected.abs().max().item())
            assert (got - expected).abs().max().item() <= TOLERANCE[dtype] * scale, key


def test_stays_the_module_it_was():
    norm = nn.SyncBatchNorm(3, eps=1e-3, momentum=0.2)
    weight, names = norm.weight, list(norm.state_dict())
    model = nn.ModuleDict(dict(a=norm, b=nn.BatchNorm2d(3)))
    assert sync_batch_norm_on_cpu(model) == 1
    assert model['a'] is norm and norm.weight is weight and list(norm.state_dict()) == names
    assert type(norm) is CpuSyncBatchNorm and type(model['b']) is nn.BatchNorm2d
    assert str(norm) == 'CpuSyncBatchNorm(3, eps=0.001, momentum=0.2, affine=True, track_running_stats=True)'


def test_one_process_is_batch_norm():
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(CpuSyncBatchNorm(3)(x), nn.BatchNorm2d(3)(x))
    with pytest.raises(ValueError, match='at least 2 axes, got 1'):
        CpuSyncBatchNorm(3)(torch.ones(3))

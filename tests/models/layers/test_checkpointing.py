import copy

import pytest
import torch
from torch import nn

from mmlk.models.layers import checkpointed


@pytest.mark.parametrize('momentum', [0.1, None])
@pytest.mark.parametrize('frozen', [True, False], ids=['frozen', 'training'])
def test_leaves_batch_norm_as_without(momentum, frozen):
    plain = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.ReLU(), nn.Dropout(0.5))
    plain[1].train(not frozen)
    recomputed = copy.deepcopy(plain)
    x = torch.randn(3, 2, 8, 8)
    outputs = []
    for net, run in ((plain, plain), (recomputed, lambda x: checkpointed(recomputed, x))):
        torch.manual_seed(1)
        for _ in range(3):
            y = run(x)
            y.square().sum().backward()
        outputs.append(y)
        assert net[1].num_batches_tracked == (0 if frozen else 3)
    assert torch.equal(*outputs)
    for a, b in zip(recomputed.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(recomputed.buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b)


def test_runs_once_where_nothing_is_to_be_saved():
    calls = []
    net = nn.Conv2d(1, 1, 3)
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    x = torch.ones(1, 1, 4, 4)
    with torch.no_grad():
        checkpointed(net, x)
    checkpointed(net.eval(), x).sum().backward()
    assert len(calls) == 2
    checkpointed(net.train(), x).sum().backward()
    assert len(calls) == 4


def test_compiled():
    plain = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    recomputed = copy.deepcopy(plain)
    x = torch.randn(3, 2, 8, 8)
    plain(x).square().sum().backward()
    torch.compile(lambda x: checkpointed(recomputed, x), backend='aot_eager', fullgraph=True)(
        x
    ).square().sum().backward()
    assert recomputed[1].num_batches_tracked == 1
    for a, b in zip(recomputed.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(a, b)
    for a, b in zip(recomputed.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-5)

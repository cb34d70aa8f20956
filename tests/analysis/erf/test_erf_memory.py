"""The estimate of memory counts what autograd keeps."""

import pytest
import torch
from torch import nn

from mmlk.analysis.erf import estimate_bytes, free_bytes
from mmlk.analysis.erf.memory import WORKING_BYTES, WORKING_TENSORS
from mmlk.models import RepLKNet


class Net(nn.Module):
    """Three blocks of which each keeps two maps: the input of exp's gradient is its output."""

    def __init__(self, meta=True):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(Exp(), Exp()) for _ in range(3))
        self.register_buffer('table', torch.zeros(4))
        self.meta = meta

    def forward(self, x):
        if x.is_meta and not self.meta:
            raise NotImplementedError('no such thing on the meta device')
        for block in self.blocks:
            x = block(x)
        return x


class Exp(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x):
        return self.inner(x).exp()


def test_counts_what_is_kept():
    # The image and the outputs of six functions.
    size = 4 * 3 * 32 * 32
    assert estimate_bytes(Net(), (32, 32)) == WORKING_BYTES + (7 + WORKING_TENSORS[False]) * size
    # Of three blocks the inputs and the last output; of one of them, what is inside.
    assert estimate_bytes(Net(), (32, 32), recompute=True) == WORKING_BYTES + (4 + 2 + WORKING_TENSORS[True]) * size


def test_tried_out_where_it_cannot_run_without_storage():
    expected = estimate_bytes(Net(), (512, 1024))
    assert estimate_bytes(Net(meta=False), (512, 1024)) == expected


def test_not_known():
    class Refuses(nn.Conv2d):
        def forward(self, x):
            raise RuntimeError('224 only')

    assert estimate_bytes(Refuses(3, 3, 1), (64, 64)) is None


def test_grows_with_the_image_and_leaves_the_network_alone():
    network = RepLKNet(arch='31b', depths=(1, 1, 1, 1), channels=(8, 8, 16, 16), kernel_size=(9, 9, 7, 7)).train()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    small, large = (estimate_bytes(network, (edge, edge)) - WORKING_BYTES for edge in (128, 256))
    assert large == pytest.approx(4 * small, rel=5e-3)
    assert network.training
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_free_bytes(monkeypatch):
    import resource

    assert 0 < free_bytes() < 2**50
    # A limit of this process counts as well.
    monkeypatch.setattr(resource, 'getrlimit', lambda kind: (2**20, 2**20))
    assert free_bytes() < 0

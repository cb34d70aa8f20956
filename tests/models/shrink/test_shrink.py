import copy

import pytest
import torch
from numerics import assert_close, randomise
from torch import nn

from mmlk.benchmarks.shrink import CASES, Case, build
from mmlk.models import DenseMixer, PeLK, PeripheralMixer, ShiftWiseMixer, SLaK, StripeMixer, switch_to_deploy
from mmlk.models.shrink import load_shrunk, shrink_kernels
from mmlk.nn.compact_conv import CompactConv2d, KernelGroup


@pytest.fixture(autouse=True)
def any_gain_is_worth_it(monkeypatch):
    """What is cut at all is tested here, not how much faster this machine is predicted to be."""
    monkeypatch.setattr('mmlk.models.shrink.WORTH', 0.99)


def stripes(zero: float, form: str, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A SLaK mixer whose first channels have zero kernels, fused."""
    model = nn.Sequential(StripeMixer(48, 31)).to(dtype)
    randomise(model)
    with torch.no_grad():
        for name in ('vertical_weight', 'horizontal_weight', 'small_weight'):
            getattr(model[0], name)[: int(48 * zero)] = 0
    return switch_to_deploy(model, form)


@pytest.mark.parametrize('form', ['strips', 'dense'])
@pytest.mark.parametrize(('dtype', 'limit'), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_zero_channels_of_slak(form, dtype, limit):
    model = stripes(0.5, form, dtype)
    x = torch.randn(2, 48, 40, 40, dtype=dtype)
    before = model(x)
    report = shrink_kernels(model, inputs=x)
    after = model(x)
    assert isinstance(model[0], CompactConv2d)
    assert_close(after, before)
    assert (after - before).abs().max() < limit
    layer = report.layers[0]
    assert (layer.zero_channels, layer.kept) == (24, '')
    if dtype == torch.float64 and form == 'dense':
        # Here the spectrum of one kernel is the faster way.
        assert layer.groups == (KernelGroup(24, ((31, 31),)), KernelGroup(24, ()))
        return
    assert layer.groups == (KernelGroup(24, ((31, 5), (5, 31))), KernelGroup(24, ()))
    assert layer.taps == (48 * (31 * 31 if form == 'dense' else 310), 24 * 310)
    # The small square lies within both strips.
    assert layer.nonzero == 24 * (310 - 25)
    assert layer.predicted_ms[1] < layer.predicted_ms[0]
    # Other sizes than the one it was chosen for.
    other = torch.randn(1, 48, 17, 9, dtype=dtype)
    assert_close(model(other), stripes_again(form, dtype)(other))


def stripes_again(form, dtype):
    torch.manual_seed(0)
    return stripes(0.5, form, dtype)


def test_nothing_to_cut():
    model = stripes(0, 'strips')
    before = copy.deepcopy(model.state_dict())
    report = shrink_kernels(model, inputs=torch.ones(1, 48, 40, 40))
    assert not report.shrunk
    assert report.layers[0].kept == 'every row, column and channel holds weights'
    assert model.state_dict().keys() == before.keys()
    assert 'left, every row' in str(report)


def test_cropped_to_what_is_left():
    """Outer rows and columns that are zero in all channels go without moving any channel."""
    model = randomise(nn.Sequential(StripeMixer(32, 31)))
    with torch.no_grad():
        model[0].vertical_weight[:, :, :10] = model[0].vertical_weight[:, :, -9:] = 0
        model[0].horizontal_weight[..., :10] = model[0].horizontal_weight[..., -9:] = 0
    switch_to_deploy(model)
    x = torch.randn(1, 32, 40, 40)
    before = model(x)
    report = shrink_kernels(model, inputs=x)
    # 12 of 31 are left, five on one side of the centre and six on the other: as strips or as a square.
    assert report.layers[0].groups in [(KernelGroup(32, sizes),) for sizes in (((13, 5), (5, 13)), ((13, 13),))]
    assert not [name for name in model.state_dict() if 'sources' in name]
    assert_close(model(x), before)


def test_channels_of_shiftwise_keep_their_places():
    """Ghosts pass by and come out last; pruned channels are the identity and a bias."""
    model = nn.Sequential(ShiftWiseMixer(64, 31, num_arrangements=2)).double()
    randomise(model)
    mixer = model[0]
    with torch.no_grad():
        dead = torch.arange(mixer.conv_channels) % 2 == 0
        for path in mixer.paths:
            path.mul_(~dead.repeat_interleave(mixer.num_kernels).view(-1, 1, 1, 1))
    ghosts = mixer.channels - mixer.conv_channels
    switch_to_deploy(model)
    x = torch.randn(2, 64, 40, 40, dtype=torch.float64)
    before = model(x)
    report = shrink_kernels(model, inputs=x)
    assert (model(x) - before).abs().max() < 1e-12
    (layer,) = report.layers
    assert KernelGroup(int(dead.sum()), ((1, 1),)) in layer.groups
    assert layer.groups[-1] == KernelGroup(ghosts, None)
    assert sum(group.channels for group in layer.groups) == 64


@pytest.mark.parametrize(
    'mixer',
    [
        lambda: DenseMixer(32, 13, small_kernel=5),
        lambda: PeripheralMixer(64, 21, norm_cfg={'type': 'BN'}),
        lambda: PeripheralMixer(64, 21),
        lambda: ShiftWiseMixer(32, 13, ghost_ratio=0.0, num_arrangements=1),
    ],
    ids=['dense', 'peripheral', 'embedding', 'shiftwise'],
)
def test_other_mixers(mixer):
    """Zero channels in what every kind of mixer fuses to."""
    model = randomise(nn.Sequential(mixer()).double())
    switch_to_deploy(model)
    with torch.no_grad():
        for conv in model[0].reparam_convs:
            conv.weight[: len(conv.weight) * 3 // 4] = 0
    x = torch.randn(2, model[0].channels, 32, 32, dtype=torch.float64)
    before = model(x)
    report = shrink_kernels(model, inputs=x)
    assert report.shrunk
    assert (model(x) - before).abs().max() < 1e-12


CASE = Case('SLaK-T', 'channels', 0.6)
TINY = {'depths': (1, 1, 1, 1), 'width_factor': 0.25}


def test_network_is_saved_loaded_and_shrunk_once():
    model = build(CASE, **TINY)
    x = torch.randn(1, 3, 64, 64)
    before = model(x)
    plain = copy.deepcopy(model)
    report = shrink_kernels(model, (512, 512), 4)
    assert [layer.name for layer in report.shrunk] == [f'stages.{stage}.blocks.0.mixer' for stage in range(4)]
    assert report.taps[1] < 0.5 * report.taps[0]
    for one, other in zip(before, model(x), strict=True):
        assert_close(other, one, torch.float32)
    again = shrink_kernels(model, (512, 512), 4)
    assert not again.shrunk
    assert {layer.kept for layer in again.layers} == {'it was shrunk before'}
    state = model.state_dict()
    load_shrunk(plain, state)
    # A second time into what is shrunk already.
    load_shrunk(plain, state)
    for one, other in zip(model(x), plain(x), strict=True):
        assert torch.equal(one, other)
    # Fusing again changes nothing.
    switch_to_deploy(model)
    assert model.state_dict().keys() == state.keys()


def test_exports():
    model = build(CASE, **TINY)
    assert shrink_kernels(model, (512, 512), 4).shrunk
    x = torch.randn(1, 3, 64, 64)
    program = torch.export.export(model, (x,))
    for one, other in zip(model(x), program.module()(x), strict=True):
        torch.testing.assert_close(other, one)


def test_measured_choice():
    model = stripes(0.9, 'dense', torch.float32)
    report = shrink_kernels(model, inputs=torch.ones(2, 48, 64, 64), measure=True)
    before, after = report.layers[0].measured_ms
    # 4 % of the weights are left.
    assert 0 < after < before
    assert report.measured_ms == (before, after)
    assert 'measured' in str(report)


@pytest.mark.parametrize('case', [CASES[0], CASES[7], *CASES[8:10], CASES[12], CASES[14]], ids=str)
def test_patterns_of_the_benchmark_are_exact(case):
    model = build(case, **TINY).double()
    after = copy.deepcopy(model)
    shrink_kernels(after, (512, 512), 4)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for one, other in zip(model(x), after(x), strict=True):
            assert (one - other).abs().max() < 1e-12 * max(1, one.abs().max())


def test_bad_arguments():
    with pytest.raises(ValueError, match='must contain mixers of mmlk, found none in Linear'):
        shrink_kernels(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='must be fused first, stages.0.blocks.0.mixer is not: call'):
        shrink_kernels(SLaK(width_factor=0.1, depths=(1, 1, 1, 1)))
    with pytest.raises(ValueError, match='got a lone StripeMixer: put it into a module'):
        shrink_kernels(stripes(0, 'strips')[0], inputs=torch.ones(1, 48, 8, 8))
    shrunk = stripes(0.5, 'strips')
    shrink_kernels(shrunk, inputs=torch.ones(1, 48, 40, 40))
    with pytest.raises(ValueError, match='must be fused first'):
        load_shrunk(nn.Sequential(StripeMixer(48, 31)), shrunk.state_dict())


def test_model_with_a_backbone():
    """Of a detector or segmentor only the backbone is run."""

    class Segmentor(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = PeLK(width_factor=0.2, depths=(1, 1, 1, 1), kernel_size=(13, 13, 9, 9))

        def forward(self, inputs, data_samples):
            raise AssertionError('it needs data samples')

    model = switch_to_deploy(Segmentor())
    with torch.no_grad():
        model.backbone.stages[0].blocks[0].mixer.reparam_convs[0].weight.zero_()
    report = shrink_kernels(model, (128, 128))
    assert report.layers[0].name == 'backbone.stages.0.blocks.0.mixer'
    assert not report.layers[0].kept

"""Comparison of two forms of a network: the figures by hand, the parts of every host, every family fused."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from tiny_models import FAMILIES, HOSTS, tiny_config, trained_like
from torch import nn

from mmlk.analysis.equivalence import Comparison, Difference, compare_forms, part_outputs, relative_difference
from mmlk.analysis.form_complexity import count_form_macs
from mmlk.cli.reparam.inputs import random_inputs
from mmlk.errors import UsageError
from mmlk.models import switch_to_deploy

#: Maps of 16 x 16 to 2 x 2 pixels, and 10 x 18 to 1 x 2: far smaller than the kernels of 13, and rectangular.
SIZES = ((64, 64), (40, 72))
ROI_HEADS = ['bbox_head.0', 'bbox_head.1', 'bbox_head.2', 'mask_head.0', 'mask_head.1', 'mask_head.2']
PARTS = {
    'mmpretrain': ['head'],
    'mmseg': ['decode_head', 'auxiliary_head'],
    'mmdet': ['neck', 'rpn_head', *ROI_HEADS],
}


class Net(nn.Module):
    """Images times a weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return {'scaled': (x * self.weight, [x])}


class TestFigures:
    def test_relative_difference(self):
        assert relative_difference(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)
        assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0
        assert relative_difference(torch.ones(2), torch.zeros(2)) == float('inf')
        assert relative_difference(torch.tensor([float('nan')]), torch.ones(1)) == float('inf')

    def test_worst_of_several_inputs(self):
        inputs = [('ones', lambda: torch.ones(1, 3, 2, 2)), ('twos', lambda: torch.full((1, 3, 2, 2), 2.0))]
        calls = []
        found = compare_forms(Net(1.0), Net(1.25), inputs, advance=lambda: calls.append(1))
        assert found.inputs == ['ones', 'twos'] and len(calls) == 4
        difference = found.parts[torch.float64]['output']
        assert (difference.relative, difference.absolute, difference.input) == (0.25, 0.5, 'twos')
        assert not found.equal

    @pytest.mark.parametrize(
        ('exact', 'rounded', 'equal'), [(1e-10, 1e-4, True), (2e-10, 1e-6, False), (1e-15, 2e-4, False)]
    )
    def test_both_precisions_decide(self, exact, rounded, equal):
        parts = {torch.float64: {'a': Difference(0, exact)}, torch.float32: {'a': Difference(0, rounded)}}
        assert Comparison(parts).equal is equal

    def test_weights_come_back(self):
        model = Net(0.1)
        before = model.weight.detach().clone()
        compare_forms(model, Net(0.1).double(), [('ones', lambda: torch.ones(1, 3, 2, 2))])
        assert model.weight.dtype == torch.float32 and torch.equal(model.weight, before)


class TestUnusable:
    def test_reference_without_numbers(self):
        with pytest.raises(UsageError, match='gives NaN or infinity in output on the input ones'):
            compare_forms(Net(float('nan')), Net(1.0), [('ones', lambda: torch.ones(1, 3, 2, 2))])

    def test_input_that_is_too_small(self):
        with pytest.raises(UsageError, match=r'cannot run on the input 2 x 2 \(.*\); give --sizes that the network'):
            compare_forms(nn.Conv2d(3, 3, 5), nn.Conv2d(3, 3, 5), random_inputs([(2, 2)]))


@pytest.fixture
def in_repository(monkeypatch, repository):
    monkeypatch.chdir(repository)


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('family', FAMILIES)
def test_fused_form_of_every_family_in_every_host(family, host, in_repository):
    model = trained_like(tiny_config(host, family))
    keys = set(model.state_dict())
    forms = ('strips', 'dense') if family in ('slak', 'shiftwise_v1', 'shiftwise_v2') and host == 'mmpretrain' else ()
    for form in ('auto', *forms):
        fused = switch_to_deploy(copy.deepcopy(model).double(), form)
        assert set(fused.state_dict()) != keys
        comparison = compare_forms(model, fused, random_inputs(SIZES))
        stages = [f'stage {index}' for index in range(4)]
        assert list(comparison.parts[torch.float32]) == [*stages, 'backbone', *PARTS[host]]
        assert comparison.skipped == []
        # The limits of TOLERANCE: 1e-10 in float64, 1e-4 in float32.
        assert comparison.equal, comparison.parts


@pytest.mark.parametrize('host', HOSTS)
def test_wrong_fusion_is_found(host, in_repository):
    """One kernel, off by one millionth: only float64 can tell."""
    model = trained_like(tiny_config(host, 'replknet'))
    fused = switch_to_deploy(copy.deepcopy(model).double())
    with torch.no_grad():
        fused.backbone.stages[1].blocks[0].mixer.reparam_convs[0].weight *= 1 + 1e-6
    comparison = compare_forms(model, fused, random_inputs(SIZES))
    assert not comparison.equal
    relative = {name: part.relative for name, part in comparison.parts[torch.float64].items()}
    assert relative['stage 0'] < 1e-14 < 1e-10 < relative['stage 1']
    assert comparison.worst(torch.float32)[1].relative < 1e-4


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


class PlainHead(Head):
    def forward(self, features):
        return features[0] * self.weight


class CascadedHead(Head):
    def forward(self, features, previous):
        return features[0] + previous * self.weight


class QueryHead(Head):
    def forward(self, features, queries):
        raise AssertionError('called without queries')


class Model(nn.Module):
    """Two heads in a cascade, and one that needs more than feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 2, 1)
        self.decode_head = nn.ModuleList([PlainHead(), CascadedHead()])
        self.query_head = QueryHead()

    def extract_feat(self, images):
        return (self.backbone(images),)


def test_cascades_and_heads_that_are_left_out():
    model, images = Model(), torch.ones(1, 3, 4, 4)
    outputs, skipped = part_outputs(model, images)
    assert list(outputs) == ['backbone', 'decode_head.0', 'decode_head.1']
    assert torch.equal(outputs['decode_head.1'][0], 2 * outputs['backbone'][0])
    assert skipped == ['query_head']
    assert not any(module._forward_hooks for module in model.modules())


class TestMultiplyAccumulates:
    def count(self, mixer, form=None):
        model = MODELS.build(mixer)
        if form:
            model.switch_to_deploy(form)
        return count_form_macs(model, lambda model: model(torch.ones(2, 8, 10, 6))) / (2 * 8 * 10 * 6)

    def test_by_hand(self):
        """Taps per output value."""
        dense = dict(type='mmlk.DenseMixer', channels=8, kernel_size=9, small_kernel=5)
        assert (self.count(dense), self.count(dense, 'dense')) == (81 + 25, 81)
        strips = dict(type='mmlk.StripeMixer', channels=8, kernel_size=9, small_kernel=3)
        assert [self.count(strips, form) for form in (None, 'strips', 'dense')] == [27 + 27 + 9, 27 + 27, 81]
        dilated = dict(type='mmlk.DilatedReparamMixer', channels=8, kernel_size=7)
        assert (self.count(dilated), self.count(dilated, 'dense')) == (49 + 25 + 9 + 9, 49)
        # 3 of 8 channels pass through the kernel; the shared weights count at each of the 9 x 9 places.
        shared = dict(type='mmlk.PeripheralMixer', channels=8, kernel_size=9)
        assert (self.count(shared), self.count(shared, 'dense')) == (81 * 3 / 8, 81 * 3 / 8)

"""Fields that are known beforehand, the protocol written down once more, and what must stay untouched."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from mmlk.analysis.erf import area_ratios, effective_receptive_fields
from mmlk.errors import UsageError
from mmlk.models import PeLK, RepLKNet, SLaK, switch_to_deploy

TINY = dict(arch='t', depths=(1, 1, 1, 1), width_factor=0.0834, layer_scale_init_value=1.0)


def ones(kernel_size, channels=1, out_channels=1):
    conv = nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.ones_(conv.weight)
    return conv


def picture(*size, seed=0):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def randomise_norms(network):
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)


@pytest.fixture(scope='module')
def slak():
    torch.manual_seed(0)
    network = SLaK(kernel_size=(9, 9, 7, 7, 3), **TINY).eval()
    randomise_norms(network)
    return network


@pytest.mark.parametrize('size', [(17, 17), (16, 16), (14, 23)])
@pytest.mark.parametrize('kernel_size', [3, 7])
def test_one_convolution_of_ones(size, kernel_size):
    (erf,) = effective_receptive_fields(ones(kernel_size, 3), [picture(*size)])
    expected = np.zeros(size)
    half, row, column = kernel_size // 2, size[0] // 2, size[1] // 2
    # One per colour.
    expected[row - half : row + half + 1, column - half : column + half + 1] = 3
    assert (erf.matrix == expected).all()
    assert (erf.unit, erf.unit_centre, erf.map_size) == ((row, column), (row, column), size)
    (area,) = area_ratios(erf.matrix, [0.99])
    assert (area.side, area.ratio) == ((kernel_size,) * 2, kernel_size**2 / (size[0] * size[1]))


def test_two_convolutions_of_ones():
    (erf,) = effective_receptive_fields(nn.Sequential(ones(5, 3), ones(5)), [picture(21, 21)])
    triangle = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1])
    expected = np.zeros((21, 21))
    expected[6:15, 6:15] = 3 * np.outer(triangle, triangle)
    assert (erf.matrix == expected).all()
    # Rings around the centre of 25^2 = 625: squares of side 1, 3, .. hold 5^2, 13^2, 19^2, 23^2 and 25^2 of it.
    found = area_ratios(erf.matrix, [0.03, 0.2, 0.5, 0.8, 0.99], 'linear')
    assert [area.side[0] for area in found] == [1, 3, 5, 7, 9]


def test_the_unit_of_an_even_map():
    """Of a stride-4 map with even edges, the unit is below and right of the centre of the image."""
    conv = nn.Conv2d(3, 1, 4, stride=4, bias=False)
    nn.init.ones_(conv.weight)
    (erf,) = effective_receptive_fields(conv, [picture(16, 24)])
    assert (erf.map_size, erf.unit, erf.unit_centre) == ((4, 6), (2, 3), (9.5, 13.5))
    rows, columns = np.nonzero(erf.matrix)
    assert (rows.mean(), columns.mean()) == erf.unit_centre


def test_only_what_is_positive_counts():
    conv = ones(1, 3, 2)
    with torch.no_grad():
        # The second channel is negative at the centre; the first has a negative gradient for blue.
        conv.weight[:, :, 0, 0] = torch.tensor([[1.0, 2.0, -0.5], [-1.0, -1.0, -1.0]])
    (erf,) = effective_receptive_fields(conv, [torch.ones(1, 3, 5, 5)])
    assert erf.matrix[2, 2] == 3
    assert erf.matrix.sum() == 3


def test_the_protocol_once_more(slak):
    """Straightforward: everything requires gradients, backward, no hooks."""
    images = [picture(64, 96, seed=seed) for seed in range(3)]
    total = np.zeros((64, 96))
    for image in images:
        image = image.clone().requires_grad_()
        x = image
        for downsample, stage in zip(slak.downsample_layers, slak.stages, strict=True):
            x = stage(downsample(x))
        torch.relu(x[:, :, x.shape[2] // 2, x.shape[3] // 2]).sum().backward()
        total += image.grad.relu().sum((0, 1)).double().numpy()
    slak.zero_grad()
    (erf,) = effective_receptive_fields(slak, images)
    np.testing.assert_allclose(erf.matrix, total / 3, rtol=1e-4, atol=1e-6 * total.max())
    assert (erf.num_images, erf.stage, erf.map_size) == (3, 3, (2, 3))


def test_all_stages_at_once(slak):
    images = [picture(64, 64, seed=seed) for seed in range(2)]
    together = effective_receptive_fields(slak, images, None)
    assert [erf.stage for erf in together] == [0, 1, 2, 3]
    assert [erf.map_size for erf in together] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    for stage, erf in enumerate(together):
        (alone,) = effective_receptive_fields(slak, images, (stage,))
        np.testing.assert_allclose(erf.matrix, alone.matrix, rtol=1e-5, atol=1e-7 * alone.matrix.max())


@pytest.mark.parametrize('stages', [(-1,), None])
def test_computed_twice_to_save_memory(slak, stages):
    images = [picture(64, 64)]
    plain = effective_receptive_fields(slak, images, stages)
    twice = effective_receptive_fields(slak, images, stages, recompute=True)
    for one, other in zip(plain, twice, strict=True):
        np.testing.assert_allclose(other.matrix, one.matrix, rtol=1e-5, atol=1e-7 * one.matrix.max())
    assert not any('forward' in vars(module) for module in slak.modules())


@pytest.mark.parametrize(
    'build',
    [
        lambda: PeLK(kernel_size=(9, 9, 7, 7), **TINY),
        lambda: SLaK(kernel_size=(9, 9, 7, 7, 3), **TINY),
        lambda: RepLKNet(arch='31b', depths=(1, 1, 1, 1), channels=(8, 8, 16, 16), kernel_size=(9, 9, 7, 7)),
    ],
    ids=['PeLK', 'SLaK', 'RepLKNet'],
)
def test_the_fused_form_has_the_same_field(build):
    network = build().eval()
    randomise_norms(network)
    images = [picture(64, 64)]
    (train,) = effective_receptive_fields(network, images)
    (fused,) = effective_receptive_fields(switch_to_deploy(network), images)
    np.testing.assert_allclose(fused.matrix, train.matrix, rtol=1e-3, atol=1e-5 * train.matrix.max())


class Restless(nn.Module):
    """Uses every generator, even in evaluation, beside a BatchNorm and a frozen part."""

    def __init__(self):
        super().__init__()
        self.frozen = ones(3, 3, 4).requires_grad_(False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = ones(3, 4)

    def forward(self, x):
        noise = random.random() + np.random.rand() + torch.rand(1)  # noqa: NPY002
        return self.head(self.drop(self.norm(self.frozen(x)))) + noise


def test_nothing_is_touched():
    network = Restless().train()
    network.frozen.eval()
    network.head.weight.grad = torch.full_like(network.head.weight, 7)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    with torch.no_grad():
        effective_receptive_fields(network, [picture(8, 8)])
        assert not torch.is_grad_enabled()
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected  # noqa: NPY002
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    assert (network.head.weight.grad == 7).all()
    assert [parameter.grad is None for parameter in network.parameters()] == [True, True, True, False]


def test_put_back_after_an_error():
    network = nn.Sequential(ones(3, 3), nn.BatchNorm2d(1)).train()

    def images():
        yield picture(8, 8)
        raise OSError('disk')

    with pytest.raises(OSError, match='disk'):
        effective_receptive_fields(network, images())
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_one_image_in_memory_at_a_time():
    import gc
    import weakref

    alive = []

    def images():
        for seed in range(3):
            assert all(reference() is None for reference in alive)
            image = picture(8, 8, seed=seed)
            alive.append(weakref.ref(image))
            yield image
            del image
            gc.collect()

    (erf,) = effective_receptive_fields(ones(3, 3), images())
    assert erf.num_images == 3


class TestBadInput:
    def test_no_image(self):
        with pytest.raises(UsageError, match='at least one image, got none'):
            effective_receptive_fields(ones(3, 3), [])

    def test_no_such_stage(self, slak):
        with pytest.raises(
            UsageError, match=r'between -4 and 3, the network has 4 maps \(strides 4, 8, 16, 32\), got 4'
        ):
            effective_receptive_fields(slak, [picture(64, 64)], (4,))

    def test_dead_centre(self):
        network = ones(3, 3)
        with pytest.raises(UsageError, match='zero everywhere'):
            effective_receptive_fields(network, [-picture(8, 8)])

    def test_not_finite(self):
        network = ones(3, 3)
        nn.init.constant_(network.weight, float('inf'))
        with pytest.raises(UsageError, match='infinite or undefined'):
            effective_receptive_fields(network, [picture(8, 8)])

"""Size of SW against the figures of the papers and of the authors' code."""

import pytest
from classifier import classifier_on_meta

import mmlk  # noqa: F401
from mmlk.analysis.complexity import count_params
from mmlk.analysis.shiftwise_complexity import shiftwise_complexity


@pytest.mark.parametrize(
    ('arch', 'params', 'merged_params', 'macs', 'published_params', 'published_macs'),
    [
        ('v2_t', 31_790_260, 31_002_670, 5.024e9, 31e6, 5.0e9),
        ('v2_s', 57_312_892, 55_990_108, 9.334e9, 56e6, 9.4e9),
    ],
)
def test_imagenet(arch, params, merged_params, macs, published_params, published_macs):
    """ShiftwiseConv, ImageNet table: SW-T and SW-S at 224."""
    net = classifier_on_meta('mmlk.ShiftWiseNet', arch=arch)
    assert count_params(net) == params
    found = shiftwise_complexity(net, (224, 224))
    assert found.params == merged_params == pytest.approx(published_params, rel=0.005)
    assert found.macs == pytest.approx(macs, rel=1e-3)
    assert found.macs == pytest.approx(published_macs, rel=0.01)


@pytest.mark.parametrize(
    ('arch', 'params', 'merged_params'), [('v2_b', 100_250_380, 98_477_182), ('v2_l', 221_808_628, 219_153_178)]
)
def test_larger_networks(arch, params, merged_params):
    assert count_params(classifier_on_meta('mmlk.ShiftWiseNet', arch=arch)) == params
    assert count_params(classifier_on_meta('mmlk.ShiftWiseNet', arch=arch, num_paths=1)) == merged_params


@pytest.mark.parametrize(
    ('arch', 'width_factor', 'params'),
    [
        ('v1_t', 1.0, 29.42e6),
        ('v1_t', 1.3, 48.89e6),
        ('v1_s', 1.0, 52.27e6),
        ('v1_s', 1.3, 86.86e6),
        ('v1_b', 1.0, 91.33e6),
        ('v1_b', 1.3, 152.25e6),
    ],
)
def test_v1(arch, width_factor, params):
    assert count_params(classifier_on_meta('mmlk.ShiftWiseNet', arch=arch, width_factor=width_factor)) == pytest.approx(
        params, rel=2e-4
    )


def test_two_paths_cost_twice_the_small_kernels():
    """5.336 G with two paths: the difference to one path is one more grouped convolution per block."""
    net = classifier_on_meta('mmlk.ShiftWiseNet', arch='v2_t')
    expected = 0
    for stage, edge in zip(net.backbone.stages, (56, 28, 14, 7), strict=True):
        for block in stage.blocks:
            expected += block.mixer.paths[0].numel() * (edge + 2) ** 2
    assert shiftwise_complexity(net, (224, 224)).macs + expected == pytest.approx(5.336e9, rel=1e-3)


def test_counting_changes_nothing():
    net = classifier_on_meta('mmlk.ShiftWiseNet', arch='v2_t', depths=(1, 1, 1, 1))
    keys = list(net.state_dict())
    shiftwise_complexity(net, (64, 64))
    assert list(net.state_dict()) == keys
    assert not any(module._forward_hooks for module in net.modules())

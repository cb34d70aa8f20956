"""Parameters and FLOPs of every ImageNet row of RepLKNet: multiply-accumulates of the merged network."""

import copy

import pytest
from classifier import classifier_on_meta

import mmlk  # noqa: F401
from mmlk.analysis.complexity import backbone_complexity, count_params
from mmlk.models import switch_to_deploy


@pytest.mark.parametrize(
    ('arch', 'resolution', 'params', 'flops'),
    [
        ('31b', 224, 79_864_168, 15.354e9),
        ('31b', 384, 79_864_168, 45.119e9),
        ('31l', 224, 172_671_016, 32.664e9),
        ('31l', 384, 172_671_016, 95.989e9),
        ('xl', 320, 335_435_752, 128.730e9),
    ],
)
def test_imagenet(arch, resolution, params, flops):
    """Table of the paper; the figures to all their digits, computed from the structure."""
    found = backbone_complexity(classifier_on_meta('mmlk.RepLKNet', arch=arch), (resolution, resolution))
    assert found.params == params
    assert found.macs == pytest.approx(flops, rel=1e-4)


@pytest.mark.parametrize(
    ('arch', 'params', 'flops'),
    [
        ('31b_k3', 71.8e6, 12.9e9),
        ('31b_k7', 72.2e6, 13.1e9),
        ('31b_k13', 73.7e6, 13.4e9),
        ('31b_k25', 78.2e6, 14.81e9),
        ('31b', 79.3e6, 15.35e9),
    ],
)
def test_kernel_series(arch, params, flops):
    """The figures as printed, of the merged network: the paper's table of kernel sizes at 224 pixels."""
    net = classifier_on_meta('mmlk.RepLKNet', arch=arch)
    assert count_params(switch_to_deploy(copy.deepcopy(net))) == pytest.approx(params, rel=0.005)
    assert backbone_complexity(net, (224, 224)).macs == pytest.approx(flops, rel=0.005)


def test_train_form_of_xl_costs_what_the_merged_one_does():
    """Without a small kernel there is nothing to merge but norms, which are not counted."""
    net = classifier_on_meta('mmlk.RepLKNet', arch='xl')
    merged = switch_to_deploy(copy.deepcopy(net))
    # Each K x K kernel gains a bias and loses a norm's weight and bias.
    widths = [block.mixer.channels for stage in merged.backbone.stages for block in stage.blocks[::2]]
    assert count_params(net) - count_params(merged) == sum(widths) == 36_096

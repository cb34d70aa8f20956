"""SLaK's parameters and FLOPs, by the paper's counting rule: the 60 % of the weights that are not zero."""

import pytest
from classifier import classifier_on_meta
from torch import nn

import mmlk  # noqa: F401
from mmlk.analysis.complexity import backbone_complexity

DENSITY = 0.6
K31, K51, K61 = (31, 29, 27, 13, 5), (51, 49, 47, 13, 5), (61, 59, 57, 13, 5)


def square_branch_macs(backbone: nn.Module, resolution: int, edge: int = 5) -> int:
    """What the small square costs beside the strips; the merged form has it inside one of them."""
    return sum(
        len(stage.blocks) * (resolution // stride) ** 2 * channels * edge**2
        for stage, channels, stride in zip(backbone.stages, backbone.channels, (4, 8, 16, 32), strict=True)
    )


@pytest.mark.parametrize(
    ('arch', 'resolution', 'kernel_size', 'params', 'macs', 'published_params', 'published_flops'),
    [
        ('t', 224, K51, 30_473_228, 5.22e9, 30e6, 5.0e9),
        ('s', 224, K51, 54_780_317, 9.96e9, 55e6, 9.8e9),
        ('b', 224, K51, 94_905_276, 17.11e9, 95e6, 17.1e9),
        ('b', 384, K51, 94_905_276, None, 95e6, 50.3e9),
        ('t', 224, K31, 29.80e6, None, 30e6, 4.8e9),
        ('t', 224, K61, 30.81e6, None, 31e6, 5.2e9),
        ('l', 224, K51, 208_176_797, None, None, None),
    ],
)
def test_imagenet_table(arch, resolution, kernel_size, params, macs, published_params, published_flops):
    net = classifier_on_meta('mmlk.SLaK', arch=arch, kernel_size=kernel_size)
    found = backbone_complexity(net, (resolution, resolution), DENSITY)
    assert found.params == pytest.approx(params, rel=0.005)
    # Exactly: 40 % of every weight with two or four axes, the stem, the linear layers and the head too.
    maskable = sum(p.numel() for p in net.parameters() if p.dim() in (2, 4))
    total = sum(p.numel() for p in net.parameters())
    assert total - 0.4 * maskable == pytest.approx(params, rel=2e-4)
    trained = found.macs + DENSITY * square_branch_macs(net.backbone, resolution)
    if macs is not None:
        # With the square as a convolution of its own; merged, it is 0.8 % less.
        assert trained == pytest.approx(macs, rel=0.001)
        assert found.macs == pytest.approx(macs, rel=0.01)
    if published_params is not None:
        assert found.params == pytest.approx(published_params, rel=0.02)
        # The published figures follow the unequal sparsity of the layers, T the most.
        assert found.macs == pytest.approx(published_flops, rel=0.06)


@pytest.mark.parametrize(
    ('kernel_size', 'params', 'decomposed', 'dense'),
    [(K31, 29.95e6, 5.013e9, 6.165e9), (K51, 30.82e6, 5.419e9, 9.353e9), (K61, 31.25e6, 5.622e9, 11.557e9)],
    ids=['31', '51', '61'],
)
def test_without_widening(kernel_size, params, decomposed, dense):
    """Width 1.0, dense weights: the strips against the full M x M kernels that they replace."""
    net = classifier_on_meta('mmlk.SLaK', arch='t', width_factor=1.0, kernel_size=kernel_size)
    found = backbone_complexity(net, (224, 224))
    square = square_branch_macs(net.backbone, 224)
    assert found.params == pytest.approx(params, rel=0.001)
    assert found.macs + square == pytest.approx(decomposed, rel=0.001)
    full = classifier_on_meta('mmlk.SLaK', arch='t', width_factor=1.0, kernel_size=kernel_size, decompose=False)
    assert backbone_complexity(full, (224, 224)).macs + square == pytest.approx(dense, rel=0.001)


def test_convnext():
    """The authors' setting for their reference: 29 M, 4.5 G."""
    net = classifier_on_meta('mmlk.SLaK', arch='t', width_factor=1.0, kernel_size=(7, 7, 7, 7, 100))
    found = backbone_complexity(net, (224, 224))
    assert found.params == pytest.approx(28.6e6, rel=0.005)
    assert found.macs == pytest.approx(4.46e9, rel=0.005)

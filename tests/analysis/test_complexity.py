"""Parameters and FLOPs against the published figures, by the counting rules of the papers."""

import pytest
import torch
from cascade_mask_rcnn import cascade_mask_rcnn
from classifier import classifier_on_meta
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmlk  # noqa: F401
from mmlk.analysis.complexity import backbone_complexity, count_macs, detector_complexity, segmentor_complexity

#: The papers with dynamic sparsity count the 60 % of the backbone's weights that are not zero.
DENSITY = 0.6


def test_count_macs_hand_computed():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 5, groups=8), nn.Flatten(), nn.Linear(288, 10)
    )
    # 10 x 10 positions of 3 x 3 x 3 -> 8; 6 x 6 of 5 x 5 depthwise; 288 -> 10.
    assert count_macs(net, lambda net: net(torch.ones(1, 3, 10, 10))) == 100 * 27 * 8 + 36 * 25 * 8 + 2880
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ('arch', 'resolution', 'params', 'flops'),
    [
        ('t', 224, 29e6, 5.6e9),
        ('s', 224, 50e6, 10.7e9),
        ('b', 224, 89e6, 18.3e9),
        ('b', 384, 89e6, 54.0e9),
        ('b_101', 384, 90e6, 68.3e9),
    ],
)
def test_pelk_imagenet(arch, resolution, params, flops):
    """PeLK, Table 4."""
    net = classifier_on_meta('mmlk.PeLK', arch=arch)
    found = backbone_complexity(net, (resolution, resolution), DENSITY)
    assert found.params == pytest.approx(params, rel=0.02)
    assert found.macs == pytest.approx(flops, rel=0.05)


@pytest.mark.parametrize(
    ('size', 'params', 'flops'),
    [('t', 62e6, 970e9), ('s', 84e6, 1077e9), ('b', 126e6, 1237e9), ('b_101', 126e6, 1339e9)],
)
def test_pelk_upernet(repository, size, params, flops):
    """PeLK, Table 2: UperNet at 2048 x 512."""
    cfg = Config.fromfile(repository / f'configs/ade20k/upernet_pelk_{size}.py')
    init_default_scope('mmseg')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    found = segmentor_complexity(model, (512, 2048), DENSITY)
    assert found.params == pytest.approx(params, rel=0.015)
    assert found.macs == pytest.approx(flops, rel=0.015)


def test_count_transposed_convolution_hand_computed():
    # Each of 3 x 4 positions with 6 channels gives 2 x 2 positions of 5 channels.
    net = nn.ConvTranspose2d(6, 5, 2, stride=2)
    assert count_macs(net, lambda net: net(torch.ones(1, 6, 3, 4))) == 3 * 4 * 6 * 5 * 4


@pytest.mark.parametrize(
    ('backbone', 'density', 'params', 'flops'),
    [
        # PeLK, Table 3.
        (dict(type='mmlk.PeLK', arch='t'), DENSITY, 86e6, 770e9),
        (dict(type='mmlk.PeLK', arch='s'), DENSITY, 108e6, 874e9),
        (dict(type='mmlk.PeLK', arch='b'), DENSITY, 147e6, 1028e9),
        (dict(type='mmlk.PeLK', arch='b_101'), DENSITY, 147e6, 1127e9),
        # RepLKNet's and UniRepLKNet's COCO tables.
        (dict(type='mmlk.RepLKNet', arch='31b'), 1.0, 137e6, 965e9),
        (dict(type='mmlk.RepLKNet', arch='31l'), 1.0, 229e6, 1321e9),
        (dict(type='mmlk.RepLKNet', arch='xl'), 1.0, 392e6, 1958e9),
        (dict(type='mmlk.UniRepLKNet', arch='t'), 1.0, 89e6, 749e9),
        (dict(type='mmlk.UniRepLKNet', arch='s'), 1.0, 113e6, 835e9),
    ],
    ids=lambda value: f'{value["type"]}-{value["arch"]}' if isinstance(value, dict) else '',
)
def test_cascade_mask_rcnn(backbone, density, params, flops):
    """Cascade Mask R-CNN at 1280 x 800."""
    init_default_scope('mmdet')
    with torch.device('meta'):
        channels = MODELS.build(backbone).channels
        model = MODELS.build(cascade_mask_rcnn(backbone, list(channels)))
    found = detector_complexity(model, (800, 1280), density)
    assert found.params == pytest.approx(params, rel=0.01)
    assert found.macs == pytest.approx(flops, rel=0.015)

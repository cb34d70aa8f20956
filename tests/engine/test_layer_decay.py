"""Learning rate and weight decay of every kind of parameter, as literal tables."""

import pytest
import torch
from cascade_mask_rcnn import cascade_mask_rcnn
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmlk  # noqa: F401
from mmlk.errors import UsageError

TINY = dict(depths=(1, 1, 4, 1), width_factor=1 / 12, kernel_size=(7, 7, 5, 5), center_radius=1, init_cfg=None)


def groups(model, optim_wrapper) -> dict:
    wrapper = build_optim_wrapper(model, optim_wrapper)
    return {group['param_name']: group for group in wrapper.optimizer.param_groups}


def segmentor(repository):
    cfg = Config.fromfile(repository / 'configs/ade20k/upernet_pelk_t.py')
    cfg.model.backbone.update(TINY)
    cfg.model.decode_head.update(in_channels=[8, 16, 32, 64], channels=8)
    cfg.model.auxiliary_head.update(in_channels=32, channels=8)
    init_default_scope('mmseg')
    return MODELS.build(cfg.model), cfg.optim_wrapper


@pytest.mark.parametrize(
    ('name', 'power', 'weight_decay'),
    [
        # SLaK's stage-wise table for num_layers 6: down-sampling 0.9^7, stages 0.9^6 to 0.9^3, the rest 1.
        ('backbone.downsample_layers.0.0.weight', 7, 0.05),
        ('backbone.downsample_layers.3.1.bias', 7, 0.0),
        ('backbone.stages.0.blocks.0.mixer.weight', 6, 0.05),
        ('backbone.stages.0.shared.position_embedding.weight', 6, 0.0),
        ('backbone.stages.1.blocks.0.norm.weight', 5, 0.0),
        ('backbone.stages.2.blocks.3.ffn.fc1.weight', 4, 0.05),
        ('backbone.stages.2.blocks.3.ffn.fc1.bias', 4, 0.0),
        ('backbone.stages.3.blocks.0.layer_scale.gamma', 3, 0.0),
        ('backbone.norm0.weight', 0, 0.0),
        ('decode_head.conv_seg.weight', 0, 0.05),
        ('auxiliary_head.conv_seg.bias', 0, 0.0),
    ],
)
def test_segmentor(repository, name, power, weight_decay):
    model, optim_wrapper = segmentor(repository)
    found = groups(model, optim_wrapper)
    assert found[name]['lr'] == pytest.approx(1e-4 * 0.9**power)
    assert found[name]['weight_decay'] == weight_decay


def test_every_parameter_once(repository):
    model, optim_wrapper = segmentor(repository)
    assert set(groups(model, optim_wrapper)) == {name for name, _ in model.named_parameters()}


def test_layer_wise_classifier():
    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='mmlk.PeLK', final_norm=True, **TINY),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
        )
    )
    found = groups(
        model,
        dict(
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
            constructor='mmlk.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.7, decay_type='layer_wise', num_layers=6),
        ),
    )
    expected = {
        'backbone.downsample_layers.0.0.weight': 7,
        'backbone.stages.0.blocks.0.mixer.weight': 6,
        'backbone.downsample_layers.1.1.weight': 5,
        'backbone.stages.1.blocks.0.mixer.weight': 5,
        'backbone.downsample_layers.2.1.weight': 4,
        'backbone.stages.2.blocks.0.mixer.weight': 4,
        'backbone.stages.2.blocks.3.mixer.weight': 3,
        'backbone.downsample_layers.3.1.weight': 1,
        'backbone.stages.3.blocks.0.mixer.weight': 1,
        'backbone.norm.weight': 0,
        'head.fc.weight': 0,
    }
    for name, power in expected.items():
        assert found[name]['lr'] == pytest.approx(0.7**power), name


#: What makes a network small; its depths and names stay.
NARROW = dict(
    replknet=dict(channels=(8, 8, 8, 8), kernel_size=(7, 7, 7, 7)),
    unireplknet=dict(channels=(8, 8, 8, 8)),
)


@pytest.mark.parametrize(
    ('config', 'rate', 'decay', 'expected'),
    [
        (
            # 22K to 1K: lr 4e-4, decay 0.7, weight decay 1e-8 but for vectors; the ids of the authors' script, of 13.
            'replknet_31b_in21k_384',
            4e-4,
            0.7,
            {
                'backbone.downsample_layers.0.3.conv.weight': (0, True),
                'backbone.downsample_layers.0.3.norm.weight': (0, False),
                'backbone.stages.0.blocks.0.mixer.weight': (1, True),
                'backbone.stages.0.blocks.0.mixer.small_norm.bias': (1, False),
                'backbone.downsample_layers.1.0.conv.weight': (1, True),
                'backbone.stages.1.blocks.3.pw2.conv.weight': (2, True),
                'backbone.downsample_layers.2.1.conv.weight': (2, True),
                'backbone.stages.2.blocks.0.mixer_norm.weight': (3, False),
                'backbone.stages.2.blocks.3.pw1.conv.weight': (3, True),
                'backbone.stages.2.blocks.4.pw1.conv.weight': (4, True),
                'backbone.stages.2.blocks.35.pw1.conv.weight': (11, True),
                'backbone.downsample_layers.3.0.conv.weight': (11, True),
                'backbone.stages.3.blocks.0.pw1.conv.weight': (12, True),
                'backbone.norm.weight': (13, False),
                'head.fc.weight': (13, True),
                'head.fc.bias': (13, False),
            },
        ),
        (
            # 22K to 1K: lr 5e-5, decay 0.8; 27 blocks in groups of three. GRN is no vector there and decays.
            'unireplknet_s_in21k_384',
            5e-5,
            0.8,
            {
                'backbone.downsample_layers.0.0.weight': (0, True),
                'backbone.downsample_layers.0.0.bias': (0, False),
                'backbone.stages.0.blocks.0.mixer.weight': (1, True),
                'backbone.downsample_layers.1.0.weight': (2, True),
                'backbone.stages.1.blocks.0.mixer.large_weight': (2, True),
                'backbone.downsample_layers.2.0.weight': (3, True),
                'backbone.stages.2.blocks.2.ffn.fc1.weight': (3, True),
                'backbone.stages.2.blocks.3.ffn.fc1.bias': (4, False),
                'backbone.stages.2.blocks.26.ffn.grn.weight': (11, True),
                'backbone.stages.2.blocks.26.ffn.grn.bias': (11, True),
                'backbone.stages.2.blocks.26.ffn.layer_scale.gamma': (11, False),
                'backbone.downsample_layers.3.0.weight': (12, True),
                'backbone.stages.3.blocks.0.se.fc1.weight': (12, True),
                'backbone.stages.3.blocks.2.norm.weight': (12, False),
                'backbone.norm.bias': (13, False),
                'head.fc.weight': (13, True),
            },
        ),
    ],
    ids=['replknet', 'unireplknet'],
)
def test_classifier(repository, config, rate, decay, expected):
    cfg = Config.fromfile(repository / f'configs/imagenet/{config}.py')
    cfg.model.backbone.update(NARROW[config.partition('_')[0]], init_cfg=None)
    cfg.model.head.update(in_channels=8, num_classes=4)
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    found = groups(model, cfg.optim_wrapper)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, (depth, decays) in expected.items():
        assert found[name]['lr'] == pytest.approx(rate * decay ** (13 - depth)), name
        assert found[name]['weight_decay'] == (1e-8 if decays else 0.0), name


@pytest.mark.parametrize(
    ('backbone', 'channels', 'decay', 'num_layers', 'expected'),
    [
        (
            # SLaK-T on COCO: decay 0.7 in 6 groups.
            dict(type='mmlk.SLaK', arch='t'),
            (124, 249, 499, 998),
            0.7,
            6,
            {
                'downsample_layers.0.0.weight': 7,
                'stages.0.blocks.0.mixer.vertical_weight': 6,
                'downsample_layers.1.1.weight': 5,
                'stages.1.blocks.2.ffn.fc1.weight': 5,
                'downsample_layers.2.1.weight': 4,
                'stages.2.blocks.2.ffn.fc1.weight': 4,
                'stages.2.blocks.3.ffn.fc1.weight': 3,
                'stages.2.blocks.8.ffn.fc1.weight': 2,
                'downsample_layers.3.1.weight': 1,
                'stages.3.blocks.0.ffn.fc1.weight': 1,
                'norm0.weight': 0,
            },
        ),
        (
            # SW-T on COCO: decay 0.8 in 12 groups, of which its 18 blocks use 6.
            dict(type='mmlk.ShiftWiseNet', arch='v2_t'),
            (80, 160, 320, 640),
            0.8,
            12,
            {
                'downsample_layers.0.3.weight': 13,
                'stages.0.blocks.0.ffn.fc1.weight': 12,
                'downsample_layers.1.0.weight': 11,
                'stages.1.blocks.0.ffn.fc1.weight': 11,
                'downsample_layers.2.0.weight': 10,
                'stages.2.blocks.0.ffn.fc1.weight': 10,
                'stages.2.blocks.17.ffn.fc1.weight': 5,
                'downsample_layers.3.0.weight': 1,
                'stages.3.blocks.2.ffn.grn.weight': 1,
                'norm3.weight': 0,
            },
        ),
        (
            # UniRepLKNet-T's grouping: 18 blocks fill 9 groups.
            dict(type='mmlk.UniRepLKNet', arch='t'),
            (80, 160, 320, 640),
            0.9,
            9,
            {
                'stages.2.blocks.0.norm.weight': 7,
                'stages.2.blocks.17.norm.weight': 2,
                'stages.3.blocks.0.norm.weight': 1,
            },
        ),
    ],
    ids=['slak', 'shiftwise', 'unireplknet'],
)
def test_detector(backbone, channels, decay, num_layers, expected):
    """On the meta device; the neck and the heads learn at the full rate."""
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cascade_mask_rcnn(backbone, list(channels)))
    found = groups(
        model,
        dict(
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
            constructor='mmlk.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=decay, decay_type='layer_wise', num_layers=num_layers),
        ),
    )
    for name, power in expected.items():
        assert found[f'backbone.{name}']['lr'] == pytest.approx(decay**power), name
    for name, group in found.items():
        if not name.startswith('backbone.'):
            assert group['lr'] == 1.0, name


def test_stage_wise_in_12_groups(repository):
    """SLaK-S, SLaK-B and their kin: all down-sampling layers 0.9^13, stages 0.9^12 to 0.9^9."""
    model, optim_wrapper = segmentor(repository)
    optim_wrapper.paramwise_cfg.num_layers = 12
    found = groups(model, optim_wrapper)
    expected = {
        'backbone.downsample_layers.0.0.weight': 13,
        'backbone.downsample_layers.3.1.weight': 13,
        'backbone.stages.0.blocks.0.mixer.weight': 12,
        'backbone.stages.2.shared.position_embedding.weight': 10,
        'backbone.stages.2.blocks.3.mixer.weight': 10,
        'backbone.stages.3.blocks.0.mixer.weight': 9,
        'backbone.norm3.weight': 0,
        'decode_head.conv_seg.weight': 0,
    }
    for name, power in expected.items():
        assert found[name]['lr'] == pytest.approx(1e-4 * 0.9**power), name


def test_more_blocks_than_groups_do_not_learn_faster_than_what_follows():
    net = MODELS.build(dict(type='mmlk.PeLK', **TINY))
    depths = [net.get_layer_depth(f'stages.2.blocks.{block}.norm.weight', num_layers=6)[0] for block in range(27)]
    assert depths == [3] * 3 + [4] * 3 + [5] * 21


def test_model_without_depths():
    with pytest.raises(UsageError, match='whose backbone has get_layer_depth.*got Linear with backbone NoneType'):
        build_optim_wrapper(
            nn.Linear(2, 2),
            dict(
                optimizer=dict(type='AdamW', lr=1.0),
                constructor='mmlk.LayerDecayOptimWrapperConstructor',
                paramwise_cfg=dict(layer_decay_rate=0.9),
            ),
        )

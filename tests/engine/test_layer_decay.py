"""Learning rate and weight decay of every kind of parameter, as literal tables."""

import pytest
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

"""Tiny models of every family on every host, with statistics and biases as after training."""

import pytest
from mmengine.registry import MODELS, init_default_scope
from numerics import randomise
from torch import nn

import mmlk  # noqa: F401

WIDTHS = (8, 16, 32, 64)
#: The smallest of each family that has all its parts.
BACKBONES = {
    'PeLK': dict(width_factor=0.0834, kernel_size=(9, 9, 7, 7)),
    'RepLKNet': dict(channels=WIDTHS, kernel_size=(9, 9, 7, 7)),
    'SLaK': dict(width_factor=0.0834, kernel_size=(9, 9, 7, 7, 5)),
    'ShiftWiseNet': dict(width_factor=0.1, kernel_size=(9, 9, 7, 7, 3)),
    'UniRepLKNet': dict(channels=WIDTHS),
}
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def backbone_cfg(family: str, **more) -> dict:
    return dict(type=f'mmlk.{family}', depths=(1, 1, 1, 1), **BACKBONES[family], **more)


def channels_of(family: str) -> list[int]:
    return list(MODELS.build(backbone_cfg(family)).channels)


def classifier(family: str) -> nn.Module:
    init_default_scope('mmpretrain')
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone_cfg(family, final_norm=True),
            head=dict(type='LinearClsHead', num_classes=7, in_channels=channels_of(family)[-1]),
            data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True),
        )
    )


def segmentor(family: str, backbone: dict | None = None, channels: list[int] | None = None) -> nn.Module:
    init_default_scope('mmseg')
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True),
            backbone=backbone or backbone_cfg(family),
            decode_head=dict(
                type='UPerHead',
                in_channels=channels or channels_of(family),
                in_index=[0, 1, 2, 3],
                channels=8,
                num_classes=5,
                norm_cfg=dict(type='SyncBN'),
            ),
        )
    )


def detector(family: str) -> nn.Module:
    init_default_scope('mmdet')
    return MODELS.build(
        dict(
            type='FCOS',
            data_preprocessor=dict(type='DetDataPreprocessor', mean=MEAN, std=STD, bgr_to_rgb=True),
            backbone=backbone_cfg(family),
            neck=dict(
                type='FPN',
                in_channels=channels_of(family),
                out_channels=8,
                num_outs=4,
                start_level=1,
                add_extra_convs='on_output',
            ),
            bbox_head=dict(type='FCOSHead', num_classes=4, in_channels=8, feat_channels=8, norm_cfg=dict(type='BN')),
        )
    )


BUILDERS = {'classification': classifier, 'segmentation': segmentor, 'detection': detector}


@pytest.fixture(scope='session')
def build():
    """Build a tiny model of a task and a family, in evaluation mode."""

    def make(task: str, family: str, *arguments) -> nn.Module:
        return randomise(BUILDERS[task](family, *arguments)).eval()

    return make

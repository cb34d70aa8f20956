"""Every family in every host toolbox, as small as it can be with every code path: a config and options for it."""

import torch
from mmengine.config import Config, DictAction
from numerics import randomise
from torch import nn

from mmlk.cli.config import read_config
from mmlk.cli.reparam.model import build_model

#: Family -> part of the names of its configs, and what makes its backbone small.
_FAMILIES = {
    'pelk': ('pelk_t', ['width_factor=0.0834', 'kernel_size=(9,9,7,7)']),
    'replknet': ('replknet_31b', ['channels=(8,16,32,64)', 'kernel_size=(9,9,7,7)']),
    'slak': ('slak_t', ['width_factor=0.0834', 'kernel_size=(9,9,7,7,5)']),
    'shiftwise_v1': ('shiftwise_t', ['arch=v1_t', 'width_factor=0.0834', 'kernel_size=(9,9,7,7,3)']),
    'shiftwise_v2': ('shiftwise_t', ['width_factor=0.1', 'kernel_size=(9,9,7,7,3)']),
    'unireplknet': ('unireplknet_t', ['channels=(8,16,32,64)']),
}
_HEADS = {
    'mmpretrain': ['head.in_channels=64'],
    'mmseg': [
        'decode_head.in_channels=[8,16,32,64]',
        'decode_head.channels=8',
        'auxiliary_head.in_channels=32',
        'auxiliary_head.channels=8',
    ],
    'mmdet': [
        'neck.in_channels=[8,16,32,64]',
        'neck.out_channels=8',
        'rpn_head.in_channels=8',
        'rpn_head.feat_channels=8',
        'roi_head.bbox_roi_extractor.out_channels=8',
        'roi_head.mask_roi_extractor.out_channels=8',
        *(
            f'roi_head.bbox_head.{stage}.{key}={value}'
            for stage in range(3)
            for key, value in (('in_channels', 8), ('conv_out_channels', 8), ('fc_out_channels', 16))
        ),
        'roi_head.mask_head.in_channels=8',
        'roi_head.mask_head.conv_out_channels=8',
        # So that a network that knows nothing yet predicts something.
        'test_cfg.rcnn.score_thr=0.0',
    ],
}
_CONFIGS = {
    'mmpretrain': 'configs/imagenet/{}.py',
    'mmseg': 'configs/ade20k/upernet_{}.py',
    'mmdet': 'configs/coco/cascade_mask_rcnn_{}.py',
}
FAMILIES = tuple(_FAMILIES)
HOSTS = tuple(_CONFIGS)


def head_options(host: str) -> list[str]:
    """The values of ``--cfg-options`` that shrink what stands on the backbone."""
    return [f'model.{option}' for option in _HEADS[host]]


def tiny_case(host: str, family: str) -> tuple[str, list[str]]:
    """A config and the values of ``--cfg-options`` that shrink it."""
    stem, backbone = _FAMILIES[family]
    options = [f'model.backbone.{option}' for option in ('depths=(1,1,1,1)', *backbone)]
    return _CONFIGS[host].format(stem), [*options, *head_options(host)]


def tiny_config(host: str, family: str, *options: str) -> Config:
    """The shrunk config, to be read in the checkout."""
    config, shrink = tiny_case(host, family)
    pairs = (option.split('=', 1) for option in (*shrink, *options))
    return read_config(config, {key: DictAction._parse_iterable(value) for key, value in pairs})


def trained_like(cfg: Config) -> nn.Module:
    """The model of a config with norms, statistics and layer scales as after training."""
    torch.manual_seed(0)
    return randomise(build_model(cfg)).eval()

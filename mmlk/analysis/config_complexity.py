"""Size of the model of a config, as the authors of a table count it."""

from __future__ import annotations

import warnings

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmlk.analysis.complexity import (
    Complexity,
    backbone_complexity,
    detector_complexity,
    segmentor_complexity,
)
from mmlk.analysis.shiftwise_complexity import shiftwise_complexity
from mmlk.analysis.tables.row import Counting


def config_complexity(cfg: Config, input_size: tuple[int, int], counting: Counting) -> Complexity:
    """Build the model of a config without storage and count it.

    Args:
        cfg: Config of a classifier, segmentor or detector with an mmlk backbone.
        input_size: (H, W) in pixels.
        counting: Rule to count by.
    """
    init_default_scope(cfg.default_scope)
    # What only training needs: mmpretrain would log that it adapts one to the other.
    parts = {name: part for name, part in cfg.model.items() if name not in ('data_preprocessor', 'train_cfg')}
    with warnings.catch_warnings(), torch.device('meta'):
        # The hosts warn of their own deprecated functions.
        warnings.simplefilter('ignore')
        model = MODELS.build(parts)
        return _model_complexity(model, cfg.default_scope, input_size, counting)


def _model_complexity(model: nn.Module, scope: str, input_size: tuple[int, int], counting: Counting) -> Complexity:
    if scope == 'mmpretrain':
        return _network_complexity(model, input_size, counting)
    backbone = _network_complexity(model.backbone, input_size, counting)
    if scope == 'mmdet':
        return detector_complexity(model, input_size, backbone=backbone)
    return segmentor_complexity(model, input_size, backbone=backbone, auxiliary_head=counting.auxiliary_head)


def _network_complexity(network: nn.Module, input_size: tuple[int, int], counting: Counting) -> Complexity:
    """A backbone or a classifier."""
    if counting.shiftwise:
        return shiftwise_complexity(network, input_size)
    return backbone_complexity(network, input_size, counting.density, merged_params=counting.merged_params)

"""The model of a runner without what is wrapped around it."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from torch import nn


def bare_model(model: nn.Module) -> nn.Module:
    """The model inside wrappers such as ``DistributedDataParallel``, or the model itself."""
    while is_model_wrapper(model):
        model = model.module
    return model

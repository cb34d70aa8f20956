"""A backbone and a linear classifier, without storage: what the ImageNet tables count."""

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

import mmlk  # noqa: F401


class Classifier(nn.Module):
    """Backbone of ``type`` (such as ``'mmlk.SLaK'``) with its classifier norm, and a linear layer."""

    def __init__(self, type: str, num_classes: int = 1000, **arguments) -> None:
        super().__init__()
        self.backbone = MODELS.build(dict(type=type, final_norm=True, **arguments))
        self.head = nn.Linear(self.backbone.channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[0])


def classifier_on_meta(type: str, **arguments) -> Classifier:
    """The classifier at full size, on the meta device."""
    with torch.device('meta'):
        return Classifier(type, **arguments)

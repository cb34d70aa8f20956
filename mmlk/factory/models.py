"""What :func:`mmlk.create_model` returns: a classifier, or the maps of the stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models import FeatureInfo
from torch import Tensor, nn

from mmlk.models.backbones import BaseLargeKernelBackbone
from mmlk.models.reparam import switch_to_deploy


class _BackboneModel(nn.Module):
    """A backbone under the name it has in a classifier, segmentor or detector of OpenMMLab, so that keys agree.

    Args:
        backbone: The backbone.

    Attributes:
        feature_info: Channels, reduction and module of the stages, as timm's models describe them.
        num_features: Channels of the last stage.
        pretrained_cfg: Size and normalisation of pictures, as timm's data functions read them.
    """

    def __init__(self, backbone: BaseLargeKernelBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_features = backbone.channels[-1]
        stages = [
            dict(num_chs=channels, reduction=4 * 2**stage, module=f'backbone.stages.{stage}')
            for stage, channels in enumerate(backbone.channels)
        ]
        self.feature_info = FeatureInfo(stages, backbone.out_indices)
        self.pretrained_cfg: dict[str, Any] = {}

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The older name of ``pretrained_cfg`` in timm."""
        return self.pretrained_cfg

    def switch_to_deploy(self, form: str = 'auto') -> None:
        """Fuse in place; idempotent."""
        switch_to_deploy(self.backbone, form)


class Classifier(_BackboneModel):
    """Logits of a picture: pooled and normed last stage, dropout, linear layer.

    Keys are those of mmpretrain's ``ImageClassifier`` with ``LinearClsHead``: ``backbone.*``, ``head.fc.*``.

    Args:
        backbone: Backbone with ``final_norm=True``.
        num_classes: Classes; 0 returns the vector in front of the linear layer.
        drop_rate: Probability of dropping an entry of that vector in training.
    """

    def __init__(self, backbone: BaseLargeKernelBackbone, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        super().__init__(backbone)
        self.drop_rate = drop_rate
        self.head = nn.Module()
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the linear layer by a new one; 0 removes it."""
        self.num_classes = num_classes
        self.head.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if num_classes:
            weight = next(self.backbone.parameters())
            self.head.fc.to(weight.device, weight.dtype)
            trunc_normal_(self.head.fc.weight, std=0.02)
            nn.init.zeros_(self.head.fc.bias)

    def get_classifier(self) -> nn.Module:
        """The linear layer."""
        return self.head.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Pooled and normed last stage (N, C_4) of pictures (N, in_chans, H, W)."""
        return self.backbone(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (N, num_classes) of the vectors; ``pre_logits`` leaves the linear layer out."""
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.head.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class FeatureExtractor(_BackboneModel):
    """Maps of the stages in ``out_indices``, each (N, C_i, H / 2^(i+2), W / 2^(i+2)), as a list.

    They are what the necks and heads of MMSegmentation and MMDetection get, with the norm of each output where the
    authors have one downstream.

    Args:
        backbone: Backbone that returns maps.
    """

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.backbone(x))


def take_stages(out_indices: int | Sequence[int] | None) -> tuple[int, ...]:
    """Stages 0 to 3 as timm names them: a number n stands for the last n, negative ones count from the end."""
    if out_indices is None:
        return (0, 1, 2, 3)
    if isinstance(out_indices, int):
        return tuple(range(4))[-out_indices:]
    return tuple(index + 4 if index < 0 else index for index in out_indices)

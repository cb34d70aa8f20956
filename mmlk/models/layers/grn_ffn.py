"""Feed-forward part with global response normalisation, as in UniRepLKNet and SW v2."""

from __future__ import annotations

import torch
from timm.layers import LayerScale2d
from torch import Tensor, nn

from mmlk.models.layers.norms import build_norm
from mmlk.models.reparam import Branch, Fusable, fold_norm


class GlobalResponseNorm(nn.Module):
    """Weigh every channel by how strongly it responds on the whole map (ConvNeXt V2, arXiv 2301.00808, Alg. 1).

    Equation: G_c = ||x_c||_2 over the map, n_c = G_c / (mean_c G_c + 1e-6), y = (weight * n + 1) * x + bias.

    The parameters have the shape (1, 1, 1, C) of the authors' code on purpose: rules that single out vectors, such as
    "no weight decay on one dimension" and "no mask on one dimension", treat them as the authors' recipes do.

    Args:
        channels: Channels C, the last axis.
        bias: Have the offset; the fused form has it in the next layer.
    """

    eps = 1e-6

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, H, W, C)."""
        response = x.norm(p=2, dim=(1, 2), keepdim=True)
        response = response / (response.mean(dim=-1, keepdim=True) + self.eps)
        y = x * (1 + self.weight * response)
        return y if self.bias is None else y + self.bias


class GRNFeedForward(Fusable, nn.Module):
    """y = gamma * Norm(Linear(GRN(GELU(Linear(x))))), C -> 4C -> C per position; the second Linear has no bias.

    Fused, the second Linear holds the offset of the GRN, the BatchNorm and gamma.

    Args:
        channels: Channels C.
        norm_cfg: BatchNorm after the second Linear.
        layer_scale_init_value: Initial gamma; 0 or less for no layer scale.
        deploy: Build the fused form.
    """

    def __init__(
        self, channels: int, norm_cfg: dict, layer_scale_init_value: float = 1e-6, deploy: bool = False
    ) -> None:
        super().__init__()
        self.deployed = deploy
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.grn = GlobalResponseNorm(4 * channels, bias=not deploy)
        self.fc2 = nn.Linear(4 * channels, channels, bias=deploy)
        self.norm = nn.Identity() if deploy else build_norm(norm_cfg, channels)
        has_scale = layer_scale_init_value > 0 and not deploy
        self.layer_scale = LayerScale2d(channels, layer_scale_init_value) if has_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        # The linear layers work on the last axis.
        y = self.fc2(self.grn(self.act(self.fc1(x.permute(0, 2, 3, 1)))))
        return self.layer_scale(self.norm(y.permute(0, 3, 1, 2)))

    @torch.no_grad()
    def switch_to_deploy(self, form: str = 'auto') -> None:
        """Fold the offset of the GRN, the BatchNorm and the layer scale into the second Linear; idempotent.

        Raises:
            TypeError: The norm is not a BatchNorm.
        """
        if self.deployed:
            return
        weight = self.fc2.weight.double()
        bias = weight @ self.grn.bias.double().flatten()
        kernel, bias = fold_norm(Branch(weight[:, :, None, None], bias, self.norm))
        scale = self.layer_scale.gamma.double() if isinstance(self.layer_scale, LayerScale2d) else bias.new_ones(())
        self.fc2.weight.copy_(kernel[:, :, 0, 0] * scale.reshape(-1, 1))
        self.fc2.bias = nn.Parameter((bias * scale).to(self.fc2.weight.dtype), self.fc2.weight.requires_grad)
        self.grn.bias = None
        self.norm = nn.Identity()
        self.layer_scale = nn.Identity()
        self.deployed = True

"""What UniRepLKNet (arXiv 2311.15599) and SW v2 have instead of ConvNeXt's: 3 x 3 down-sampling, SE, GRN."""

from __future__ import annotations

from timm.layers import DropPath, SqueezeExcite
from torch import Tensor, nn

from mmlk.models.layers import GRNFeedForward, build_norm


class UniRepLKNetStyleBlock(nn.Module):
    """y = x + DropPath(FFN(SE(Norm(Mixer(x))))), the FFN with GRN, a second norm and the layer scale.

    Args:
        channels: Channels C.
        mixer: Token mixer on (N, C, H, W).
        norm_cfg: BatchNorm after the mixer and at the end of the FFN.
        drop_path_rate: Probability of dropping the residual branch of a sample.
        layer_scale_init_value: Initial gamma; 0 or less for no layer scale.
        deploy: Build the fused form of the FFN.
    """

    def __init__(
        self,
        channels: int,
        mixer: nn.Module,
        norm_cfg: dict,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        deploy: bool | str = False,
    ) -> None:
        super().__init__()
        self.mixer = mixer
        self.norm = build_norm(norm_cfg, channels)
        self.se = SqueezeExcite(channels, rd_channels=channels // 4)
        self.ffn = GRNFeedForward(channels, norm_cfg, layer_scale_init_value, deploy=bool(deploy))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.ffn(self.se(self.norm(self.mixer(x)))))


def conv3x3_downsample(stage: int, in_channels: int, channels: int, norm_cfg: dict) -> nn.Sequential:
    """The layers before a stage: 3 x 3 stride 2 and norm, twice with GELU between before the first stage."""

    def conv_norm(c_in: int, c_out: int) -> list[nn.Module]:
        return [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), build_norm(norm_cfg, c_out)]

    if stage == 0:
        half = channels // 2
        return nn.Sequential(*conv_norm(in_channels, half), nn.GELU(), *conv_norm(half, channels))
    return nn.Sequential(*conv_norm(in_channels, channels))

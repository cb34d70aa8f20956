"""The body of the networks that replace ConvNeXt's 7 x 7 convolution: SLaK (arXiv 2207.03620), PeLK, SW v1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from timm.layers import DropPath, LayerScale, Mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmlk.models.backbones.base import BaseLargeKernelBackbone
from mmlk.models.layers import build_norm
from mmlk.models.reparam import Fusable


class ConvNeXtStyleBlock(nn.Module):
    """y = x + DropPath(gamma * FFN(Norm(Mixer(x)))), FFN = Linear C -> 4C, GELU, Linear 4C -> C.

    Args:
        channels: Channels C.
        mixer: Token mixer on (N, C, H, W).
        norm_cfg: Norm after the mixer.
        drop_path_rate: Probability of dropping the residual branch of a sample.
        layer_scale_init_value: Initial gamma; 0 or less for no layer scale.
    """

    def __init__(
        self,
        channels: int,
        mixer: nn.Module,
        norm_cfg: dict,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
    ) -> None:
        super().__init__()
        self.mixer = mixer
        self.norm = build_norm(norm_cfg, channels)
        self.ffn = Mlp(channels, 4 * channels)
        self.layer_scale = LayerScale(channels, layer_scale_init_value) if layer_scale_init_value > 0 else nn.Identity()
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # The linear layers work on the last axis; LayerNorm2d leaves the map in that memory order already.
        y = self.norm(self.mixer(x)).permute(0, 2, 3, 1)
        y = self.layer_scale(self.ffn(y)).permute(0, 3, 1, 2)
        return x + self.drop_path(y)


class ConvNeXtStyleStage(Fusable, nn.Module):
    """Blocks of one resolution, and what their mixers share.

    Args:
        blocks: The blocks.
        shared: Named modules that the mixers of the blocks use together, owned (and saved) here once; dropped by
            fusion.
        with_cp: Recompute each block in the backward pass instead of storing its activations.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], shared: dict[str, nn.Module] | None = None, with_cp: bool = False
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.shared = nn.ModuleDict(shared)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if self.with_cp and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x

    def switch_to_deploy(self, form: str = 'auto') -> None:
        """Fuse the mixers, then drop what they shared."""
        for block in self.blocks:
            block.mixer.switch_to_deploy(form)
        self.shared.clear()


class ConvNeXtStyleBackbone(BaseLargeKernelBackbone):
    """Stem 4 x 4 stride 4 and norm, norm and 2 x 2 stride 2 between stages, one residual branch per block.

    Args:
        make_stage: Called with the stage index (0 to 3), its channels and depth; returns the mixers of its blocks and,
            by name, the modules they share.
        depths: Blocks per stage.
        channels: Channels per stage.
        in_channels: Channels of the image.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0 over all blocks.
        layer_scale_init_value: Initial layer scale; 0 or less for none.
        norm_cfg: Every norm of the body and its outputs.
        with_cp: Activation checkpointing per block.
        **base: Arguments of :class:`BaseLargeKernelBackbone`.
    """

    def __init__(
        self,
        make_stage: Callable[[int, int, int], tuple[list[nn.Module], dict[str, nn.Module]]],
        depths: Sequence[int],
        channels: Sequence[int],
        in_channels: int,
        drop_path_rate: float,
        layer_scale_init_value: float,
        norm_cfg: dict,
        with_cp: bool,
        **base,
    ) -> None:
        super().__init__(norm_cfg=norm_cfg, **base)
        for name, values in (('depths', depths), ('channels', channels)):
            if len(values) != 4 or any(value < 1 for value in values):
                raise ValueError(f'{name} must hold four positive integers, one per stage, got {tuple(values)}')
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device='cpu').tolist())
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for stage, (depth, width) in enumerate(zip(depths, channels, strict=True)):
            if stage == 0:
                layers = [nn.Conv2d(in_channels, width, 4, stride=4), build_norm(norm_cfg, width)]
            else:
                previous = channels[stage - 1]
                layers = [build_norm(norm_cfg, previous), nn.Conv2d(previous, width, 2, stride=2)]
            self.downsample_layers.append(nn.Sequential(*layers))
            mixers, shared = make_stage(stage, width, depth)
            blocks = [
                ConvNeXtStyleBlock(width, mixer, norm_cfg, next(rates), layer_scale_init_value) for mixer in mixers
            ]
            self.stages.append(ConvNeXtStyleStage(blocks, shared, with_cp))
        self.finish(channels)

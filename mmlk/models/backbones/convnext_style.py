"""The body of the networks that replace ConvNeXt's 7 x 7 convolution: SLaK (arXiv 2207.03620), PeLK, SW v1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from timm.layers import DropPath, LayerScale, Mlp
from torch import Tensor, nn

from mmlk.models.backbones.base import BaseLargeKernelBackbone
from mmlk.models.layers import build_norm, checkpointed
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


def convnext_downsample(stage: int, in_channels: int, channels: int, norm_cfg: dict) -> nn.Sequential:
    """What is before a stage: 4 x 4 stride 4 and norm before the first, norm and 2 x 2 stride 2 before the others."""
    if stage == 0:
        return nn.Sequential(nn.Conv2d(in_channels, channels, 4, stride=4), build_norm(norm_cfg, channels))
    return nn.Sequential(build_norm(norm_cfg, in_channels), nn.Conv2d(in_channels, channels, 2, stride=2))


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
            x = checkpointed(block, x) if self.with_cp else block(x)
        return x

    def switch_to_deploy(self, form: str = 'auto') -> None:
        """Fuse every part of the blocks, then drop what the mixers shared."""
        for module in list(self.blocks.modules()):
            if isinstance(module, Fusable):
                module.switch_to_deploy(form)
        self.shared.clear()


class ConvNeXtStyleBackbone(BaseLargeKernelBackbone):
    """Stages of blocks with one mixer each; by default ConvNeXt's blocks and down-sampling layers.

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
        make_block: Called with channels, mixer, norm, drop path rate and initial layer scale; returns the block.
        make_downsample: Called with the stage index, input and output channels and norm; returns the layers before the
            stage.
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
        make_block: Callable[[int, nn.Module, dict, float, float], nn.Module] = ConvNeXtStyleBlock,
        make_downsample: Callable[[int, int, int, dict], nn.Module] = convnext_downsample,
        **base,
    ) -> None:
        super().__init__(norm_cfg=norm_cfg, **base)
        self.check_body(depths, channels, drop_path_rate)
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device='cpu').tolist())
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for stage, (depth, width) in enumerate(zip(depths, channels, strict=True)):
            previous = channels[stage - 1] if stage else in_channels
            self.downsample_layers.append(make_downsample(stage, previous, width, norm_cfg))
            mixers, shared = make_stage(stage, width, depth)
            blocks = [make_block(width, mixer, norm_cfg, next(rates), layer_scale_init_value) for mixer in mixers]
            self.stages.append(ConvNeXtStyleStage(blocks, shared, with_cp))
        self.finish(channels)

"""RepLKNet: scaling up kernels to 31 x 31 (arXiv 2203.06717)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mmlk.models.backbones.base import BaseLargeKernelBackbone
from mmlk.models.backbones.convnext_style import ConvNeXtStyleStage
from mmlk.models.layers import build_norm, checkpointed
from mmlk.models.mixers import DenseMixer
from mmlk.registry import MODELS


class ConvNormAct(nn.Module):
    """y = Act(Norm(Conv(x))), the convolution without bias and with padding k // 2.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Edge of the kernel, odd.
        norm_cfg: Norm after the convolution.
        stride: Stride.
        depthwise: One kernel per channel.
        act: Class of the activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm_cfg: dict,
        stride: int = 1,
        depthwise: bool = False,
        act: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        groups = out_channels if depthwise else 1
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.norm = build_norm(norm_cfg, out_channels)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class RepLKNetStem(nn.Sequential):
    """Dense 3 x 3 stride 2, depthwise 3 x 3, dense 1 x 1, depthwise 3 x 3 stride 2, each with norm and ReLU.

    Args:
        in_channels: Channels of the image.
        channels: Channels of all four layers.
        norm_cfg: Norm after each convolution.
        with_cp: Recompute all layers but the first in the backward pass.
    """

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict, with_cp: bool = False) -> None:
        super().__init__(
            ConvNormAct(in_channels, channels, 3, norm_cfg, stride=2),
            ConvNormAct(channels, channels, 3, norm_cfg, depthwise=True),
            ConvNormAct(channels, channels, 1, norm_cfg),
            ConvNormAct(channels, channels, 3, norm_cfg, stride=2, depthwise=True),
        )
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self
        x = first(x)
        for layer in others:
            x = checkpointed(layer, x) if self.with_cp else layer(x)
        return x


class RepLKBlock(nn.Module):
    """y = x + DropPath(BN(PW2(ReLU(Mixer(ReLU(BN(PW1(BN(x)))))))))): 1 x 1, large kernel, 1 x 1.

    Args:
        channels: Channels C of input and output.
        mixer: Large kernel on D channels.
        norm_cfg: Every norm.
        drop_path_rate: Probability of dropping the residual branch of a sample.
    """

    def __init__(self, channels: int, mixer: DenseMixer, norm_cfg: dict, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.mixer_norm = build_norm(norm_cfg, channels)
        self.pw1 = ConvNormAct(channels, mixer.channels, 1, norm_cfg)
        self.mixer = mixer
        self.act = nn.ReLU()
        self.pw2 = ConvNormAct(mixer.channels, channels, 1, norm_cfg, act=nn.Identity)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.mixer(self.pw1(self.mixer_norm(x))))
        return x + self.drop_path(self.pw2(y))


class ConvFFN(nn.Module):
    """y = x + DropPath(BN(PW2(GELU(BN(PW1(BN(x))))))), PW1 from C to F channels, PW2 back.

    Args:
        channels: Channels C of input and output.
        hidden_channels: Channels F.
        norm_cfg: Every norm.
        drop_path_rate: Probability of dropping the residual branch of a sample.
    """

    def __init__(self, channels: int, hidden_channels: int, norm_cfg: dict, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.ffn_norm = build_norm(norm_cfg, channels)
        self.pw1 = ConvNormAct(channels, hidden_channels, 1, norm_cfg, act=nn.GELU)
        self.pw2 = ConvNormAct(hidden_channels, channels, 1, norm_cfg, act=nn.Identity)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.pw2(self.pw1(self.ffn_norm(x))))


_31B = {
    'depths': (2, 2, 18, 2),
    'channels': (128, 256, 512, 1024),
    'kernel_size': (31, 29, 27, 13),
    'small_kernel': 5,
    'dw_ratio': 1.0,
    'ffn_ratio': 4.0,
    'norm_intermediate_features': False,
}


@MODELS.register_module()
class RepLKNet(BaseLargeKernelBackbone):
    """RepLKNet backbone: RepLK blocks and ConvFFN blocks in turn, BatchNorm everywhere.

    Args:
        arch: ``'31b'``, ``'31l'``, ``'xl'``; the kernel series of the paper at the width of 31B, ``'31b_k3'``,
            ``'31b_k7'``, ``'31b_k13'``, ``'31b_k25'``; or a mapping of the fields ``depths``, ``channels``,
            ``kernel_size``, ``small_kernel``, ``dw_ratio``, ``ffn_ratio``, ``norm_intermediate_features``. Each field
            can be overridden by the keyword of its name.
        depths: Pairs of a RepLK and a ConvFFN block per stage.
        channels: Channels C per stage.
        kernel_size: Edge K of the large kernel per stage, odd.
        small_kernel: Edge of the kernel trained beside the large one, ``None`` for none; ``'arch'`` takes that of
            ``arch``, so that ``None`` can override it.
        dw_ratio: The large kernel works on ``int(C * dw_ratio)`` channels.
        ffn_ratio: ConvFFN works on ``int(C * ffn_ratio)`` channels.
        norm_intermediate_features: Norm each returned map; what the next stage gets stays as it is. ``None`` takes that
            of ``arch`` (yes for ``'xl'`` only), and no with ``final_norm``.
        in_channels: Channels of the image.
        out_indices: Stages whose outputs are returned; ``None`` means all, or the last with ``final_norm``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages with their down-sampling
            layers.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        with_cp: Activation checkpointing of the stem's layers 1 to 3 and of each block.
        drop_path_rate: Stochastic depth of the last pair of blocks; it grows linearly from 0 over the pairs.
        norm_cfg: Every norm; ``None`` is ``dict(type='BN')``.
        deploy: Build the fused form.
        final_norm: Return the pooled norm of the last stage, (N, C), for a linear classifier.
        backend: Backend of the op; ``None`` takes the first that can run.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: An unknown ``arch``, an even kernel, a small kernel that exceeds the large one, or
            ``norm_intermediate_features`` together with ``final_norm``.

    Note:
        The paper does not state whether its 3 x 3 and 7 x 7 networks were trained with a small kernel. ``'31b_k3'`` has
        none, as 5 exceeds 3; ``'31b_k7'`` has one, as the others of the series.

    Example:
        >>> net = RepLKNet('31b', depths=(1, 1, 1, 1), kernel_size=(13, 13, 13, 13))
        >>> [tuple(y.shape) for y in net(torch.ones(1, 3, 64, 64))]
        [(1, 128, 16, 16), (1, 256, 8, 8), (1, 512, 4, 4), (1, 1024, 2, 2)]
    """

    arch_zoo = {
        '31b': _31B,
        '31l': _31B | {'channels': (192, 384, 768, 1536)},
        'xl': _31B
        | {
            'channels': (256, 512, 1024, 2048),
            'kernel_size': (27, 27, 27, 13),
            'small_kernel': None,
            'dw_ratio': 1.5,
            'norm_intermediate_features': True,
        },
        '31b_k3': _31B | {'kernel_size': (3, 3, 3, 3), 'small_kernel': None},
        '31b_k7': _31B | {'kernel_size': (7, 7, 7, 7)},
        '31b_k13': _31B | {'kernel_size': (13, 13, 13, 13)},
        '31b_k25': _31B | {'kernel_size': (25, 25, 25, 13)},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = '31b',
        *,
        depths: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        kernel_size: Sequence[int] | None = None,
        small_kernel: int | str | None = 'arch',
        dw_ratio: float | None = None,
        ffn_ratio: float | None = None,
        norm_intermediate_features: bool | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        norm_cfg: dict | None = None,
        deploy: bool = False,
        final_norm: bool = False,
        backend: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        norm_cfg = {'type': 'BN'} if norm_cfg is None else norm_cfg
        super().__init__(out_indices, frozen_stages, norm_eval, final_norm, norm_cfg, init_cfg)
        if final_norm and norm_intermediate_features:
            raise ValueError(
                'norm_intermediate_features=True norms maps, and final_norm=True returns none; give one of them'
            )
        overrides = {
            'depths': depths,
            'channels': channels,
            'kernel_size': kernel_size,
            'dw_ratio': dw_ratio,
            'ffn_ratio': ffn_ratio,
            'norm_intermediate_features': norm_intermediate_features,
        }
        fields = self.resolve_arch(arch, overrides) | ({} if small_kernel == 'arch' else {'small_kernel': small_kernel})
        depths, channels, kernel_size = fields['depths'], fields['channels'], fields['kernel_size']
        self.check_body(depths, channels, drop_path_rate)
        if not isinstance(kernel_size, Sequence) or len(kernel_size) != 4:
            raise ValueError(f'kernel_size must hold four entries, one per stage, got {kernel_size}')
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device='cpu').tolist())
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for stage, (depth, width) in enumerate(zip(depths, channels, strict=True)):
            if stage == 0:
                downsample: nn.Module = RepLKNetStem(in_channels, width, norm_cfg, with_cp)
            else:
                downsample = nn.Sequential(
                    ConvNormAct(channels[stage - 1], width, 1, norm_cfg),
                    ConvNormAct(width, width, 3, norm_cfg, stride=2, depthwise=True),
                )
            self.downsample_layers.append(downsample)
            blocks: list[nn.Module] = []
            for _ in range(depth):
                mixer = DenseMixer(
                    int(width * fields['dw_ratio']),
                    kernel_size[stage],
                    fields['small_kernel'],
                    norm_cfg=norm_cfg,
                    deploy=deploy,
                    backend=backend,
                )
                rate = next(rates)
                blocks.append(RepLKBlock(width, mixer, norm_cfg, rate))
                blocks.append(ConvFFN(width, int(width * fields['ffn_ratio']), norm_cfg, rate))
            self.stages.append(ConvNeXtStyleStage(blocks, with_cp=with_cp))
        self.finish(channels, output_norms=fields['norm_intermediate_features'])

    def reset_parameters(self) -> None:
        """Keep what the layers start with: the authors use the defaults of the framework."""

    def pool(self, x: Tensor) -> Tensor:
        """The vector (N, C_4) of ``final_norm``: the mean over the normed map, in the authors' order."""
        return self.norm(x).mean((2, 3))

    def stage_wise_depth(self, is_stage: bool, stage: int, block: int, num_layers: int) -> int:
        """Stem 0, stage i and the down-sampling behind it i + 1: the authors' layer-wise groups, coarsened."""
        return stage + 1 if is_stage else stage

    def layer_wise_depth(self, is_stage: bool, stage: int, block: int, num_layers: int) -> int:
        """The authors' groups for fine-tuning, with 12 layers.

        Stem 0; stage 0 and the down-sampling behind it 1; stage 1 and the down-sampling behind it 2; block b of stage
        2, ConvFFN blocks counted too, 3 + b // 4; the down-sampling behind it 11; stage 3 12.
        """
        if not is_stage:
            return num_layers - 1 if stage == 3 else stage
        if stage == 2:
            # Deeper networks than the authors' must not get larger rates than the stage behind.
            return min(3 + block // 4, num_layers - 1)
        return num_layers if stage == 3 else stage + 1

"""SLaK: sparse large kernel network (arXiv 2207.03620)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timm.layers import trunc_normal_
from torch import nn

from mmlk.models.backbones.convnext_style import ConvNeXtStyleBackbone
from mmlk.models.mixers import BaseMixer, DenseMixer, StripeMixer
from mmlk.registry import MODELS

_K51 = {'width_factor': 1.3, 'kernel_size': (51, 49, 47, 13, 5)}
_BN = {'type': 'BN'}


@MODELS.register_module()
class SLaK(ConvNeXtStyleBackbone):
    """SLaK backbone: the ConvNeXt body with decomposed large kernels, widened, meant to be trained sparsely.

    Args:
        arch: ``'t'``, ``'s'``, ``'b'``, ``'l'``, or a mapping of the fields ``depths``, ``base_channels``,
            ``width_factor``, ``kernel_size``. Each field can be overridden by the keyword of its name.
        depths: Blocks per stage.
        base_channels: Channels per stage before the width factor.
        width_factor: Channels become ``int(base * width_factor)``.
        kernel_size: Five edges as the authors write them: the long edge M of each stage, then the short edge N of all.
            A stage with N >= M has one M x M convolution, so (7, 7, 7, 7, 100) is ConvNeXt.
        decompose: M x N, N x M and N x N convolutions (all released networks); ``False``: M x M and N x N.
        conv_norm_cfg: BatchNorm after each of these convolutions; ``None`` for none, where all are decomposed.
        in_channels: Channels of the image.
        out_indices: Stages whose outputs are returned; ``None`` means all, or the last with ``final_norm``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages with their down-sampling
            layers.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        with_cp: Activation checkpointing per block.
        drop_path_rate: Stochastic depth of the last block.
        layer_scale_init_value: Initial layer scale (1e-6 for ImageNet, 1.0 downstream); 0 or less for none.
        norm_cfg: Norms of the body and its outputs.
        deploy: Build the fused form, to load a fused checkpoint into: ``True`` for the preferred form, ``'strips'`` or
            ``'dense'`` for that one.
        final_norm: Return the norm of the pooled last stage, (N, C), for a linear classifier.
        backend: Backend of the op; ``None`` takes the first that can run.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: An unknown ``arch``, ``kernel_size`` without five entries, an even kernel, kernels that are not
            decomposed without a norm.

    Note:
        The published parameters and FLOPs count the 60 % of all weights that are not zero. The network itself is dense;
        it is the training that makes it sparse.

    Example:
        >>> net = SLaK('t', depths=(1, 1, 1, 1), kernel_size=(13, 13, 13, 13, 5))
        >>> [tuple(y.shape) for y in net(torch.ones(1, 3, 64, 64))]
        [(1, 124, 16, 16), (1, 249, 8, 8), (1, 499, 4, 4), (1, 998, 2, 2)]
    """

    arch_zoo = {
        't': {'depths': (3, 3, 9, 3), 'base_channels': (96, 192, 384, 768), **_K51},
        's': {'depths': (3, 3, 27, 3), 'base_channels': (96, 192, 384, 768), **_K51},
        'b': {'depths': (3, 3, 27, 3), 'base_channels': (128, 256, 512, 1024), **_K51},
        'l': {'depths': (3, 3, 27, 3), 'base_channels': (192, 384, 768, 1536), **_K51},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 't',
        *,
        depths: Sequence[int] | None = None,
        base_channels: Sequence[int] | None = None,
        width_factor: float | None = None,
        kernel_size: Sequence[int] | None = None,
        decompose: bool = True,
        conv_norm_cfg: dict | None = _BN,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        norm_cfg: dict | None = None,
        deploy: bool | str = False,
        final_norm: bool = False,
        backend: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        overrides = {
            'depths': depths,
            'base_channels': base_channels,
            'width_factor': width_factor,
            'kernel_size': kernel_size,
        }
        fields = self.resolve_arch(arch, overrides)
        kernel_size = fields['kernel_size']
        if not isinstance(kernel_size, Sequence) or len(kernel_size) != 5:
            raise ValueError(
                'kernel_size must hold five entries, the long edge of each stage and the short edge of all, '
                f'got {kernel_size}'
            )
        *long_edges, short_edge = kernel_size

        def make_mixer(stage: int, channels: int) -> BaseMixer:
            edge = long_edges[stage]
            common = {'norm_cfg': conv_norm_cfg, 'deploy': deploy, 'backend': backend}
            if short_edge < edge and decompose:
                return StripeMixer(channels, edge, short_edge, **common)
            if conv_norm_cfg is None:
                raise ValueError(
                    f'conv_norm_cfg=None needs decomposed kernels in every stage, got decompose={decompose} and '
                    f'kernel_size={tuple(kernel_size)}'
                )
            return DenseMixer(channels, edge, short_edge if short_edge < edge else None, **common)

        def make_stage(stage: int, channels: int, depth: int) -> tuple[list[nn.Module], dict[str, nn.Module]]:
            return [make_mixer(stage, channels) for _ in range(depth)], {}

        super().__init__(
            make_stage,
            depths=fields['depths'],
            channels=[int(base * fields['width_factor']) for base in fields['base_channels']],
            in_channels=in_channels,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=layer_scale_init_value,
            norm_cfg={'type': 'mmlk.LN2d', 'eps': 1e-6} if norm_cfg is None else norm_cfg,
            with_cp=with_cp,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            final_norm=final_norm,
            init_cfg=init_cfg,
        )

    def reset_parameters(self) -> None:
        """Every convolution and linear layer, those of the mixers too: truncated normal, std 0.02, biases 0."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, BaseMixer):
                for weight in module.parameters():
                    if weight.dim() == 4:
                        trunc_normal_(weight, std=0.02)

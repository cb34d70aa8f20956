"""SW: networks with shift-wise convolution (v1: arXiv 2401.12736; v2: ShiftwiseConv, CVPR 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mmlk.models.backbones.convnext_style import ConvNeXtStyleBackbone
from mmlk.models.backbones.unireplknet_style import UniRepLKNetStyleBlock, conv3x3_downsample
from mmlk.models.mixers import ShiftWiseMixer
from mmlk.registry import MODELS

_COMMON = {'width_factor': 1.0, 'kernel_size': (51, 49, 47, 13, 3)}
_V1, _V2 = {'version': 'v1', **_COMMON}, {'version': 'v2', **_COMMON}
_BN = {'type': 'BN'}


@MODELS.register_module()
class ShiftWiseNet(ConvNeXtStyleBackbone):
    """SW backbone: ``v1`` is the body of SLaK, ``v2`` that of UniRepLKNet with shift-wise convolution in every block.

    Args:
        arch: ``'v1_t'``, ``'v1_s'``, ``'v1_b'``, ``'v1_l'``, ``'v2_t'``, ``'v2_s'``, ``'v2_b'``, ``'v2_l'``, or a
            mapping of the fields ``version``, ``depths``, ``base_channels``, ``width_factor``, ``kernel_size``. Each
            field can be overridden by the keyword of its name.
        version: ``'v1'`` or ``'v2'``: the body, and how the number of ghost channels is rounded.
        depths: Blocks per stage.
        base_channels: Channels per stage before the width factor.
        width_factor: Channels become ``int(base * width_factor)``.
        kernel_size: Five edges as the authors write them: the focus length M of each stage, then the edge N of the
            small kernels.
        ghost_ratio: Share of the channels that pass by the mixer.
        num_paths: Parallel copies of the small kernels, ``N_path`` in the authors' code ("Rep" in the paper).
        num_arrangements: Random arrangements of the small kernels, ``N_rep`` in the authors' code ("edges" in the
            paper).
        conv_norm_cfg: BatchNorm after each convolution of a mixer, and of v2 also those behind the mixer and at the end
            of the FFN; ``None`` for none (v1 only).
        in_channels: Channels of the image.
        out_indices: Stages whose outputs are returned; ``None`` means all, or the last with ``final_norm``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages with their down-sampling
            layers.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        with_cp: Activation checkpointing per block.
        drop_path_rate: Stochastic depth of the last block.
        layer_scale_init_value: Initial layer scale (1e-6 for ImageNet, 1.0 downstream); 0 or less for none.
        norm_cfg: Norms of the stem, the down-sampling layers, the outputs and, in v1, the blocks.
        deploy: Build the fused form, to load a fused checkpoint into: ``True`` for the preferred form, ``'strips'`` or
            ``'dense'`` for that one.
        final_norm: Return the norm of the pooled last stage, (N, C), for a linear classifier.
        backend: Backend of the op; ``None`` takes the first that can run.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: An unknown ``arch`` or ``version``, ``kernel_size`` without five entries, an even edge.

    Note:
        The authors always use SyncBatchNorm; ``conv_norm_cfg=dict(type='SyncBN')`` does the same.

    Example:
        >>> net = ShiftWiseNet('v2_t', depths=(1, 1, 1, 1), kernel_size=(13, 13, 13, 13, 3))
        >>> [tuple(y.shape) for y in net(torch.ones(1, 3, 64, 64))]
        [(1, 80, 16, 16), (1, 160, 8, 8), (1, 320, 4, 4), (1, 640, 2, 2)]
    """

    arch_zoo = {
        'v1_t': {**_V1, 'depths': (3, 3, 9, 3), 'base_channels': (96, 192, 384, 768)},
        'v1_s': {**_V1, 'depths': (3, 3, 27, 3), 'base_channels': (96, 192, 384, 768)},
        'v1_b': {**_V1, 'depths': (3, 3, 27, 3), 'base_channels': (128, 256, 512, 1024)},
        'v1_l': {**_V1, 'depths': (3, 3, 27, 3), 'base_channels': (192, 384, 768, 1536)},
        'v2_t': {**_V2, 'depths': (3, 3, 18, 3), 'base_channels': (80, 160, 320, 640)},
        'v2_s': {**_V2, 'depths': (3, 3, 27, 3), 'base_channels': (96, 192, 384, 768)},
        'v2_b': {**_V2, 'depths': (3, 3, 27, 3), 'base_channels': (128, 256, 512, 1024)},
        'v2_l': {**_V2, 'depths': (3, 3, 27, 3), 'base_channels': (192, 384, 768, 1536)},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'v2_t',
        *,
        version: str | None = None,
        depths: Sequence[int] | None = None,
        base_channels: Sequence[int] | None = None,
        width_factor: float | None = None,
        kernel_size: Sequence[int] | None = None,
        ghost_ratio: float = 0.23,
        num_paths: int = 2,
        num_arrangements: int = 4,
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
            'version': version,
            'depths': depths,
            'base_channels': base_channels,
            'width_factor': width_factor,
            'kernel_size': kernel_size,
        }
        fields = self.resolve_arch(arch, overrides)
        version, kernel_size = fields['version'], fields['kernel_size']
        if not isinstance(kernel_size, Sequence) or len(kernel_size) != 5:
            raise ValueError(
                'kernel_size must hold five entries, the focus length of each stage and the edge of the small kernels, '
                f'got {kernel_size}'
            )
        if version == 'v2' and conv_norm_cfg is None:
            raise ValueError('conv_norm_cfg must be a BatchNorm for v2, whose blocks need one, got None')

        def make_stage(stage: int, channels: int, depth: int) -> tuple[list[nn.Module], dict[str, nn.Module]]:
            mixers = [
                ShiftWiseMixer(
                    channels,
                    kernel_size[stage],
                    small_kernel=kernel_size[4],
                    ghost_ratio=ghost_ratio,
                    num_paths=num_paths,
                    num_arrangements=num_arrangements,
                    version=version,
                    norm_cfg=conv_norm_cfg,
                    deploy=deploy,
                    backend=backend,
                )
                for _ in range(depth)
            ]
            return mixers, {}

        def make_block(channels: int, mixer: nn.Module, _: dict, drop_path_rate: float, scale: float) -> nn.Module:
            return UniRepLKNetStyleBlock(channels, mixer, conv_norm_cfg, drop_path_rate, scale, deploy)

        body = {'make_block': make_block, 'make_downsample': conv3x3_downsample} if version == 'v2' else {}
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
            **body,
        )

"""PeLK: parameter-efficient large kernel networks with peripheral convolution (arXiv 2403.07589)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mmlk.models.backbones.convnext_style import ConvNeXtStyleBackbone
from mmlk.models.mixers import KernelPositionEmbedding, PeripheralMixer
from mmlk.registry import MODELS

_T = {'depths': (3, 3, 9, 3), 'base_channels': (96, 192, 384, 768), 'width_factor': 1.3}
_S = {'depths': (3, 3, 27, 3), 'base_channels': (96, 192, 384, 768), 'width_factor': 1.3}
_B = {'depths': (3, 3, 27, 3), 'base_channels': (128, 256, 512, 1024), 'width_factor': 1.3}
_K51 = {'kernel_size': (51, 49, 47, 13), 'center_radius': 2}
_K101 = {'kernel_size': (101, 69, 67, 13), 'center_radius': 3}


@MODELS.register_module()
class PeLK(ConvNeXtStyleBackbone):
    """PeLK backbone (section 4.4): the SLaK body with peripheral convolution as mixer.

    Args:
        arch: ``'t'``, ``'s'``, ``'b'``, ``'b_101'``, ``'t_101'``, or a mapping of the fields ``depths``,
            ``base_channels``, ``width_factor``, ``kernel_size``, ``center_radius``. Each field can be overridden by the
            keyword of its name.
        depths: Blocks per stage.
        base_channels: Channels per stage before the width factor.
        width_factor: Channels become ``int(base * width_factor)``.
        kernel_size: Edge K of the kernel per stage, odd.
        center_radius: Radius of the fine centre of the sharing grid, in taps.
        sharing_grid: Explicit grid per stage (``None`` entries take the paper's), each adding up to the stage's K.
        partial_ratio: Share of the channels that are convolved.
        position_embedding: Kernel-wise positional embedding, one per stage; ``None``: yes unless ``conv_norm_cfg`` is
            given.
        small_kernel: Edge of a parallel dense kernel trained beside the large one.
        conv_norm_cfg: BatchNorm directly after the convolutions, such as ``dict(type='SyncBN')``.
        in_channels: Channels of the image.
        out_indices: Stages whose outputs are returned; ``None`` means all, or the last with ``final_norm``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages with their down-sampling
            layers.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        with_cp: Activation checkpointing per block.
        drop_path_rate: Stochastic depth of the last block.
        layer_scale_init_value: Initial layer scale (paper's ImageNet value 1e-6; 1.0 downstream).
        norm_cfg: Norms of the body and its outputs.
        deploy: Build the fused form, to load a fused checkpoint into.
        final_norm: Return the norm of the pooled last stage, (N, C), for a linear classifier.
        backend: Backend of the op; ``None`` takes the first that can run.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: An unknown ``arch``, an even kernel, a grid that does not add up to its kernel.

    Note:
        The authors published neither code nor weights. Whether a BatchNorm follows the convolution and whether a small
        kernel is trained beside it is not stated for the final networks; the defaults have neither.

    Example:
        >>> net = PeLK('t', depths=(1, 1, 1, 1), kernel_size=(13, 13, 13, 13))
        >>> [tuple(y.shape) for y in net(torch.ones(1, 3, 64, 64))]
        [(1, 124, 16, 16), (1, 249, 8, 8), (1, 499, 4, 4), (1, 998, 2, 2)]
    """

    arch_zoo = {
        't': {**_T, **_K51},
        's': {**_S, **_K51},
        'b': {**_B, **_K51},
        'b_101': {**_B, **_K101},
        't_101': {**_T, **_K101},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 't',
        *,
        depths: Sequence[int] | None = None,
        base_channels: Sequence[int] | None = None,
        width_factor: float | None = None,
        kernel_size: Sequence[int] | None = None,
        center_radius: int | None = None,
        sharing_grid: Sequence[Sequence[int] | None] | None = None,
        partial_ratio: float = 3 / 8,
        position_embedding: bool | None = None,
        small_kernel: int | None = None,
        conv_norm_cfg: dict | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        norm_cfg: dict | None = None,
        deploy: bool = False,
        final_norm: bool = False,
        backend: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        overrides = {
            'depths': depths,
            'base_channels': base_channels,
            'width_factor': width_factor,
            'kernel_size': kernel_size,
            'center_radius': center_radius,
        }
        fields = self.resolve_arch(arch, overrides)
        kernel_size = fields['kernel_size']
        grids = (None,) * 4 if sharing_grid is None else sharing_grid
        for name, values in (('kernel_size', kernel_size), ('sharing_grid', grids)):
            if not isinstance(values, Sequence) or len(values) != 4:
                raise ValueError(f'{name} must hold four entries, one per stage, got {values}')
        if position_embedding is None:
            position_embedding = conv_norm_cfg is None

        def make_stage(stage: int, channels: int, depth: int) -> tuple[list[nn.Module], dict[str, nn.Module]]:
            embedding: KernelPositionEmbedding | None = None
            if position_embedding and not deploy:
                embedding = KernelPositionEmbedding(int(partial_ratio * channels), kernel_size[stage])
            mixers = [
                PeripheralMixer(
                    channels,
                    kernel_size[stage],
                    sharing_grid=grids[stage],
                    center_radius=fields['center_radius'],
                    partial_ratio=partial_ratio,
                    position_embedding=embedding or False,
                    small_kernel=small_kernel,
                    norm_cfg=conv_norm_cfg,
                    deploy=deploy,
                    backend=backend,
                )
                for _ in range(depth)
            ]
            return mixers, {} if embedding is None else {'position_embedding': embedding}

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

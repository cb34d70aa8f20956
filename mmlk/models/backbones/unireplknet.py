"""UniRepLKNet: universal perception large kernel network (arXiv 2311.15599, 2410.08049)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mmlk.models.backbones.convnext_style import ConvNeXtStyleBackbone
from mmlk.models.backbones.unireplknet_style import UniRepLKNetStyleBlock, conv3x3_downsample
from mmlk.models.layers import LargeKernelConv2d
from mmlk.models.mixers import BaseMixer, DilatedReparamMixer
from mmlk.models.reparam import Branch, Fusable, fold_norm
from mmlk.registry import MODELS

#: Kernels up to this edge have no parallel branches.
LARGEST_PLAIN_KERNEL = 5


class UniRepLKNetBlock(Fusable, UniRepLKNetStyleBlock):
    """y = x + DropPath(FFN(SE(Norm(Mixer(x))))); fused, the mixer holds the norm behind it.

    Args:
        channels: Channels C.
        mixer: A mixer of all channels with a dense form, or a depthwise convolution, which needs a bias with
            ``deploy``.
        norm_cfg: BatchNorm after the mixer and at the end of the FFN.
        drop_path_rate: Probability of dropping the residual branch of a sample.
        layer_scale_init_value: Initial gamma; 0 or less for no layer scale.
        deploy: Build the fused form; ``mixer`` comes fused.
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
        super().__init__(channels, mixer, norm_cfg, drop_path_rate, layer_scale_init_value, deploy)
        if deploy:
            self.norm = nn.Identity()
            self.mixer.requires_grad_(False)

    @torch.no_grad()
    def switch_to_deploy(self, form: str = 'auto') -> None:
        """Fuse the mixer, the norm behind it and the FFN; idempotent.

        Raises:
            TypeError: A norm is not a BatchNorm.
            ValueError: The mixer does not have this form.
        """
        conv = self.mixer
        if isinstance(self.mixer, BaseMixer):
            self.mixer.switch_to_deploy(form)
            (conv,) = self.mixer.reparam_convs
        if not isinstance(self.norm, nn.Identity):
            kernel, bias = fold_norm(Branch(conv.weight, conv.bias, self.norm))
            conv.weight.copy_(kernel)
            conv.bias = nn.Parameter(bias.to(conv.weight.dtype))
            conv.requires_grad_(False)
            self.norm = nn.Identity()
        self.ffn.switch_to_deploy(form)


@MODELS.register_module()
class UniRepLKNet(ConvNeXtStyleBackbone):
    """UniRepLKNet backbone: few large kernels with dilated branches, squeeze-excitation, FFN with GRN.

    Args:
        arch: ``'a'``, ``'f'``, ``'p'``, ``'n'``, ``'t'``, ``'s'``, ``'b'``, ``'l'``, ``'xl'``, or a mapping of the
            fields ``depths``, ``channels``, ``kernel_size``. Each field can be overridden by the keyword of its name.
        depths: Blocks per stage.
        channels: Channels per stage.
        kernel_size: Edge K of the kernels per stage, odd; a sequence such as ``(13, 3, 3)`` is repeated over the blocks
            of its stage. Blocks with K of 3 or 5 have one plain depthwise convolution, those with K of 7 to 17 a
            :class:`DilatedReparamMixer`.
        in_channels: Channels of the image.
        out_indices: Stages whose outputs are returned; ``None`` means all, or the last with ``final_norm``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages with their down-sampling
            layers.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        with_cp: Activation checkpointing per block.
        drop_path_rate: Stochastic depth of the last block.
        layer_scale_init_value: Initial layer scale; 0 or less for none.
        norm_cfg: BatchNorm of the blocks: after each convolution of a mixer, after the mixer, and at the end of the
            FFN; ``None`` is ``dict(type='BN')``. The authors train downstream with ``dict(type='SyncBN')``.
        layer_norm_cfg: Norm of the stem, the down-sampling layers and the outputs; ``None`` is LayerNorm, eps 1e-6.
        deploy: Build the fused form, to load a fused or the authors' merged checkpoint into.
        final_norm: Return the norm of the pooled last stage, (N, C), for a linear classifier.
        backend: Backend of the op; ``None`` takes the first that can run.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: An unknown ``arch``, a kernel that is even or for which the authors chose no dilated branches.

    Example:
        >>> net = UniRepLKNet('a', depths=(1, 1, 2, 1), kernel_size=(3, 13, (13, 3), 13))
        >>> [tuple(y.shape) for y in net(torch.ones(1, 3, 64, 64))]
        [(1, 40, 16, 16), (1, 80, 8, 8), (1, 160, 4, 4), (1, 320, 2, 2)]
    """

    arch_zoo = {
        'a': {'depths': (2, 2, 6, 2), 'channels': (40, 80, 160, 320), 'kernel_size': (3, 13, 13, 13)},
        'f': {'depths': (2, 2, 6, 2), 'channels': (48, 96, 192, 384), 'kernel_size': (3, 13, 13, 13)},
        'p': {'depths': (2, 2, 6, 2), 'channels': (64, 128, 256, 512), 'kernel_size': (3, 13, 13, 13)},
        'n': {'depths': (2, 2, 8, 2), 'channels': (80, 160, 320, 640), 'kernel_size': (3, 13, 13, 13)},
        't': {'depths': (3, 3, 18, 3), 'channels': (80, 160, 320, 640), 'kernel_size': (3, 13, (13, 3), 13)},
        's': {'depths': (3, 3, 27, 3), 'channels': (96, 192, 384, 768), 'kernel_size': (3, 13, (13, 3, 3), 13)},
        'b': {'depths': (3, 3, 27, 3), 'channels': (128, 256, 512, 1024), 'kernel_size': (3, 13, (13, 3, 3), 13)},
        'l': {'depths': (3, 3, 27, 3), 'channels': (192, 384, 768, 1536), 'kernel_size': (3, 13, (13, 3, 3), 13)},
        'xl': {'depths': (3, 3, 27, 3), 'channels': (256, 512, 1024, 2048), 'kernel_size': (3, 13, (13, 3, 3), 13)},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 't',
        *,
        depths: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        kernel_size: Sequence[int | Sequence[int]] | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        norm_cfg: dict | None = None,
        layer_norm_cfg: dict | None = None,
        deploy: bool | str = False,
        final_norm: bool = False,
        backend: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        overrides = {'depths': depths, 'channels': channels, 'kernel_size': kernel_size}
        fields = self.resolve_arch(arch, overrides)
        norm_cfg = {'type': 'BN'} if norm_cfg is None else norm_cfg
        kernel_size = fields['kernel_size']
        if not isinstance(kernel_size, Sequence) or len(kernel_size) != 4:
            raise ValueError(f'kernel_size must hold four entries, one per stage, got {kernel_size}')
        patterns = [tuple(entry) if isinstance(entry, Sequence) else (entry,) for entry in kernel_size]
        if not all(patterns):
            raise ValueError(f'kernel_size must name at least one kernel per stage, got {kernel_size}')

        def make_mixer(width: int, edge: int) -> nn.Module:
            if edge <= LARGEST_PLAIN_KERNEL:
                return LargeKernelConv2d(width, width, edge, bias=bool(deploy), backend=backend)
            return DilatedReparamMixer(width, edge, norm_cfg=norm_cfg, deploy=deploy, backend=backend)

        def make_stage(stage: int, width: int, depth: int) -> tuple[list[nn.Module], dict[str, nn.Module]]:
            pattern = patterns[stage]
            return [make_mixer(width, pattern[block % len(pattern)]) for block in range(depth)], {}

        def make_block(width: int, mixer: nn.Module, _: dict, drop_path_rate: float, scale: float) -> nn.Module:
            return UniRepLKNetBlock(width, mixer, norm_cfg, drop_path_rate, scale, deploy)

        super().__init__(
            make_stage,
            depths=fields['depths'],
            channels=fields['channels'],
            in_channels=in_channels,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=layer_scale_init_value,
            norm_cfg={'type': 'mmlk.LN2d', 'eps': 1e-6} if layer_norm_cfg is None else layer_norm_cfg,
            with_cp=with_cp,
            make_block=make_block,
            make_downsample=conv3x3_downsample,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            final_norm=final_norm,
            init_cfg=init_cfg,
        )

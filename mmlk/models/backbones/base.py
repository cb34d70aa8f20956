"""What all backbones share: stages, outputs and their norms, freezing, loading, depth of a parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from mmengine.model import BaseModule
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmlk.checkpoints.fit import load_backbone_weights
from mmlk.models.layers import build_norm
from mmlk.models.reparam import Fusable

#: Blocks of a stage, more than ten times those of any published network: a slip would fill the memory before it fails.
MOST_BLOCKS = 1000


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1


class BaseLargeKernelBackbone(Fusable, BaseModule):
    """Four stages, each behind a down-sampling layer.

    A subclass fills ``downsample_layers`` and ``stages`` (one ``ModuleList`` each, equally long) and then calls
    :meth:`finish`. ``stages[i]`` returns the stage output before its output norm, so hooks on it see what the next
    stage sees.

    Args:
        out_indices: Stages whose outputs are returned; ``None`` means all, or the last with ``final_norm``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages with their down-sampling
            layers.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        final_norm: Return the norm of the pooled last stage, (N, C), as the authors' classifiers see it, instead of
            maps.
        norm_cfg: Norm of the outputs.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` to load weights; they must fit.
    """

    #: Named architectures: name -> fields. The fields are keywords of the constructor too.
    arch_zoo: dict[str, dict[str, Any]] = {}

    downsample_layers: nn.ModuleList
    stages: nn.ModuleList

    def __init__(
        self,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        final_norm: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.norm_cfg = norm_cfg
        self.norm_eval = norm_eval
        self.final_norm = final_norm
        self.frozen_stages = frozen_stages
        if out_indices is None:
            out_indices = (3,) if final_norm else (0, 1, 2, 3)
        self.out_indices = tuple(out_indices) if _is_sequence(out_indices) else (out_indices,)
        if not self.out_indices or any(index not in range(4) for index in self.out_indices):
            raise ValueError(f'out_indices must name stages 0 to 3, got {self.out_indices}')
        if final_norm and self.out_indices != (3,):
            raise ValueError(f'out_indices must be (3,) with final_norm=True, got {self.out_indices}')
        if frozen_stages not in range(-1, 5):
            raise ValueError(f'frozen_stages must be between -1 and 4, got {frozen_stages}')

    @classmethod
    def resolve_arch(cls, arch: str | Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of an architecture, given by name or as a mapping of the same fields; overrides that are not None win.

        Raises:
            ValueError: The name is unknown, or a mapping misses a field or has one too many.
        """
        if isinstance(arch, str):
            if arch not in cls.arch_zoo:
                raise ValueError(f'arch of {cls.__name__} must be one of {sorted(cls.arch_zoo)}, got {arch!r}')
            fields = dict(cls.arch_zoo[arch])
        else:
            fields = dict(arch)
            expected = set(next(iter(cls.arch_zoo.values())))
            if set(fields) != expected:
                raise ValueError(
                    f'arch of {cls.__name__} must have the fields {sorted(expected)}, got {sorted(fields)}'
                )
        return fields | {name: value for name, value in overrides.items() if value is not None}

    @staticmethod
    def check_body(depths: Sequence[int], channels: Sequence[int], drop_path_rate: float) -> None:
        """Raise ``ValueError`` unless there are four depths and widths, and the rate is a probability below 1."""
        for name, values in (('depths', depths), ('channels', channels)):
            if not _is_sequence(values) or len(values) != 4 or not all(_is_count(value) for value in values):
                shown = tuple(values) if _is_sequence(values) else repr(values)
                raise ValueError(f'{name} must hold four positive integers, one per stage, got {shown}')
        if max(depths) > MOST_BLOCKS:
            raise ValueError(f'depths must be {MOST_BLOCKS} blocks or less per stage, got {tuple(depths)}')
        if not isinstance(drop_path_rate, (int, float)) or not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')

    def finish(self, channels: Sequence[int], output_norms: bool = True) -> None:
        """Add the norms of the outputs, initialise, freeze.

        Args:
            channels: Channels per stage.
            output_norms: Norm each returned map, as the authors of most families do downstream.
        """
        self.channels = tuple(channels)
        if self.final_norm:
            self.norm = build_norm(self.norm_cfg, channels[-1])
        elif output_norms:
            for index in self.out_indices:
                self.add_module(f'norm{index}', build_norm(self.norm_cfg, channels[index]))
        self.reset_parameters()
        self._freeze_stages()

    def reset_parameters(self) -> None:
        """Initialise convolutions and linear layers: truncated normal, std 0.02, biases 0."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def pool(self, x: Tensor) -> Tensor:
        """The vector (N, C_4) of ``final_norm``: the norm of the mean over the map."""
        return self.norm(x.mean((2, 3), keepdim=True)).flatten(1)

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``, which must hold every weight but the norms of the outputs.

        MMEngine alone would report weights that do not fit in the log and train on from random ones.
        """
        if isinstance(self.init_cfg, dict) and self.init_cfg.get('type') == 'Pretrained':
            if not self._is_init:
                load_backbone_weights(self, **{k: v for k, v in self.init_cfg.items() if k != 'type'})
                self._is_init = True
        else:
            super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the stages in ``out_indices``, each (N, C_i, H / 2^(i+2), W / 2^(i+2)).

        With ``final_norm``, one vector (N, C_4).
        """
        outputs = []
        for index, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(downsample(x))
            if index not in self.out_indices:
                continue
            if self.final_norm:
                outputs.append(self.pool(x))
            else:
                norm = getattr(self, f'norm{index}', None)
                outputs.append(x if norm is None else norm(x))
        return tuple(outputs)

    def train(self, mode: bool = True) -> BaseLargeKernelBackbone:
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def switch_to_deploy(self, form: str = 'auto') -> None:
        """Fuse every stage in place; idempotent."""
        for stage in self.stages:
            stage.switch_to_deploy(form)

    def get_layer_depth(
        self, param_name: str, prefix: str = '', num_layers: int = 12, decay_type: str = 'layer_wise'
    ) -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rate decay, as in ConvNeXt, SLaK and their downstream recipes.

        The learning rate is scaled by decay^(depth_count - depth - 1).

        ``stage_wise``: down-sampling layers 0, stage i i+1. ``layer_wise``: stem 0, stage 0 1, down-sampling and stage
        1 2, down-sampling to stage 2 3, block b of stage 2 3 + b // 3, down-sampling and stage 3 ``num_layers``. What
        the blocks of a stage share counts as its first block. Norms of the outputs and everything outside the backbone
        come last, undecayed.

        Args:
            param_name: Name of the parameter, such as 'backbone.stages.2.blocks.4.norm.weight'.
            prefix: Prefix of the backbone's parameters, such as 'backbone.'.
            num_layers: Number of groups: 6, 9 or 12 in the published recipes.
            decay_type: 'layer_wise' or 'stage_wise'.

        Returns:
            Depth of the parameter, and the number of depths, ``num_layers + 2``.

        Raises:
            ValueError: ``decay_type`` is unknown.
        """
        if decay_type not in ('layer_wise', 'stage_wise'):
            raise ValueError(f"decay_type must be 'layer_wise' or 'stage_wise', got {decay_type!r}")
        depth_count = num_layers + 2
        name = param_name[len(prefix) :] if param_name.startswith(prefix) else ''
        match = re.match(r'(downsample_layers|stages)\.(\d)\.(?:blocks\.(\d+)\.)?', name)
        if match is None:
            return depth_count - 1, depth_count
        is_stage, stage, block = match[1] == 'stages', int(match[2]), int(match[3] or 0)
        depth_of = self.stage_wise_depth if decay_type == 'stage_wise' else self.layer_wise_depth
        return depth_of(is_stage, stage, block, num_layers), depth_count

    def stage_wise_depth(self, is_stage: bool, stage: int, block: int, num_layers: int) -> int:
        """Depth of a parameter of ``stages[stage].blocks[block]`` or, without ``is_stage``, of the down-sampling."""
        return stage + 1 if is_stage else 0

    def layer_wise_depth(self, is_stage: bool, stage: int, block: int, num_layers: int) -> int:
        """Depth of a parameter of ``stages[stage].blocks[block]`` or, without ``is_stage``, of the down-sampling."""
        if stage == 0:
            return int(is_stage)
        if stage == 1:
            return 2
        if stage == 2:
            # Deeper networks than the number of groups is meant for must not get larger rates than the stage behind.
            return min(3 + block // 3, num_layers - 1)
        return num_layers

    def _freeze_stages(self) -> None:
        frozen: list[nn.Module] = []
        if self.frozen_stages >= 0:
            frozen.append(self.downsample_layers[0])
        for index in range(self.frozen_stages):
            frozen += [self.downsample_layers[index], self.stages[index]]
        for module in frozen:
            module.eval().requires_grad_(False)

"""Learning rates that decay towards the stem, for classifiers, segmentors and detectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mmlk.errors import UsageError
from mmlk.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise learning rate decay, asking the backbone (not the model) for the depth of a parameter.

    ``paramwise_cfg`` may hold ``layer_decay_rate``, ``decay_type`` ('layer_wise' or 'stage_wise'), ``num_layers``,
    ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult`` and ``custom_keys`` with ``decay_mult``.

    Example:
        >>> optim_wrapper = dict(
        ...     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        ...     constructor='mmlk.LayerDecayOptimWrapperConstructor',
        ...     paramwise_cfg=dict(layer_decay_rate=0.9, decay_type='stage_wise', num_layers=6))
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **kwargs,
    ) -> None:
        """Append one parameter group per parameter of ``module`` to ``params``.

        Raises:
            UsageError: The model has no ``backbone`` that knows its depth.
        """
        if get_layer_depth is None:
            backbone = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                raise UsageError(
                    'mmlk.LayerDecayOptimWrapperConstructor needs a model whose backbone has get_layer_depth(), got '
                    f'{type(module).__name__} with backbone {type(backbone).__name__}; use one of mmlk or mmpretrain '
                    'or leave out the constructor'
                )
            grouping = {
                key: self.paramwise_cfg[key] for key in ('num_layers', 'decay_type') if key in self.paramwise_cfg
            }
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.', **grouping)
        super().add_params(params, module, prefix=prefix, get_layer_depth=get_layer_depth, **kwargs)

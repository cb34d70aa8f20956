"""FSDP through MMEngine's flexible runner, with our optimizer settings, and without a GPU as well."""

from __future__ import annotations

from typing import Any

import torch
from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from mmengine.device import get_device
from mmengine.optim import BaseOptimWrapper
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mmlk.nn import sync_batch_norm_on_cpu
from mmlk.registry import STRATEGIES

#: What FSDP puts into the names of parameters.
_INSERTED = '_fsdp_wrapped_module.'


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """MMEngine's strategy, in which parameters get their settings before they are cut to pieces.

    The pieces of a sharded parameter are flat and have other names, so layer decay would not find the layer and every
    weight would count as a vector, without weight decay. Here the optimizer is built for the whole model, and MMEngine
    hands its groups on to the pieces. On the CPU, SyncBN becomes :class:`mmlk.nn.CpuSyncBatchNorm`.

    Args:
        **kwargs: Those of MMEngine's strategy.
    """

    def prepare(self, model: nn.Module | dict, *, optim_wrapper: BaseOptimWrapper | dict | None = None, **kwargs: Any):
        """Prepare model and optimizer, as MMEngine's strategy does."""
        self._optim_wrapper = optim_wrapper
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if isinstance(self._optim_wrapper, dict):
            self._optim_wrapper = super().build_optim_wrapper(self._optim_wrapper, model)
        if get_device() == 'cpu':
            # Torch would read what it has moved to the CPU after freeing it, where it has been there before.
            self.state_dict_config.offload_to_cpu = self.optim_state_dict_config.offload_to_cpu = False
            sync_batch_norm_on_cpu(model)
            self.model_wrapper = dict(self.model_wrapper or {}, device_id=torch.device('cpu'))
        return super()._wrap_model(model)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper | dict, model: nn.Module) -> BaseOptimWrapper:
        """Hand the groups of the optimizer of the whole model on to the pieces."""
        # MMEngine would build another optimizer from the settings of this one, which the AdamW of torch 2.11 refuses.
        pieces = {name.replace(_INSERTED, ''): piece for name, piece in model.named_parameters()}
        for group in self._optim_wrapper.optimizer.param_groups:
            group['params'] = [pieces[self.id_to_name[id(parameter)]] for parameter in group['params']]
        return self._optim_wrapper

    def model_state_dict(self) -> dict:
        """The weights, as plain tensors."""
        # FSDP leaves marks on tensors, which a checkpoint could not be loaded with safely.
        return _plain(super().model_state_dict())

    def optim_state_dict(self) -> dict:
        """The state of the optimizer, as plain tensors."""
        return _plain(super().optim_state_dict())

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`optim_state_dict` gave."""
        # MMEngine has the arguments in the order of an older torch.
        pieces = FullyShardedDataParallel.optim_state_dict_to_load(self.model, self.optim_wrapper.optimizer, state_dict)
        self.optim_wrapper.load_state_dict(pieces)


def _plain(value: Any) -> Any:
    """Nested dictionaries and lists whose tensors have no attributes."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value

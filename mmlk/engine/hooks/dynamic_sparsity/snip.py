"""Scores of all weights from one batch, without a trace in the run that follows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmlk.engine.kept_buffers import kept_buffers
from mmlk.engine.random_state import kept_random_state
from mmlk.errors import UsageError
from mmlk.sparsity import generator_for, snip_scores

#: float16 cannot hold small gradients; a power of two changes no rank.
_AMP_SCALE = 2.0**10


def score_one_batch(
    model: BaseModel,
    parameters: Mapping[str, nn.Parameter],
    loader: DataLoader,
    optim_wrapper: OptimWrapper,
    seed: int,
) -> dict[str, Tensor]:
    """SNIP scores of one batch per process, averaged over the processes.

    The samples are drawn from the seed and the rank and taken from the data set itself, so the sampler does not
    advance. Random states, buffers (statistics of norms) and gradients are afterwards what they were. Classifiers are
    scored on hard labels, without mixup, CutMix and label smoothing, as the authors of SLaK do.

    Args:
        model: The bare model.
        parameters: Names and parameters to score.
        loader: Loader of the training data: data set, batch size and collate function.
        optim_wrapper: Its precision is that of the forward pass.
        seed: The same on every process.

    Returns:
        Name -> scores of the parameter's shape; the same on every process.

    Raises:
        UsageError: The data set has no length, so samples cannot be drawn from it, or the loss says nothing about a
            layer, which would then lose all of its weights.
    """
    scale = _AMP_SCALE if isinstance(optim_wrapper, AmpOptimWrapper) else 1.0

    def loss() -> Tensor:
        data = model.data_preprocessor(batch, True)
        with optim_wrapper.optim_context(model):
            losses = model._run_forward(data, mode='loss')
        return scale * model.parse_losses(losses)[0]

    with _own_random_numbers(seed), kept_buffers(model), _hard_labels(model):
        batch = draw_batch(loader, seed)
        was_training = model.training
        model.train()
        try:
            scores = snip_scores(parameters, loss)
        finally:
            model.train(was_training)
    for value in scores.values():
        all_reduce(value, 'mean')
    silent = [name for name, value in scores.items() if not value.any()]
    if silent:
        raise UsageError(
            f"init='snip' needs a gradient of every layer in scope, and {len(silent)} of {len(scores)}, such as "
            f"{silent[0]}, have none or are zero: take init='erk', narrow scope, or, if the layers are checkpointed to "
            'save memory, use use_reentrant=False'
        )
    return scores


def draw_batch(loader: DataLoader, seed: int) -> Any:
    """A batch of this process, as the loader would collate it.

    Raises:
        UsageError: The data set has no length.
    """
    try:
        count = len(loader.dataset)
    except TypeError:
        raise UsageError(
            f"init='snip' draws samples from the training data, but {type(loader.dataset).__name__} has no length: "
            "take init='erk' or init='uniform'"
        ) from None
    # A loader with a batch sampler of its own, as those of mmdet, does not know the size.
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1)
    order = torch.randperm(count, generator=generator_for(seed, 'snip', 0))
    start = get_rank() * size
    return loader.collate_fn([loader.dataset[int(order[(start + i) % count])] for i in range(size)])


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Random numbers that depend on seed and rank alone; every generator is put back."""
    own = generator_for(seed, f'snip on process {get_rank()}', 0).initial_seed()
    with kept_random_state():
        random.seed(own)
        np.random.seed(own % 2**32)
        torch.manual_seed(own)
        yield


@contextmanager
def _hard_labels(model: nn.Module) -> Iterator[None]:
    """A classifier of mmpretrain gets one class per picture and plain cross-entropy; other models stay as they are."""
    preprocessor, head = model.data_preprocessor, getattr(model, 'head', None)
    changed: list[tuple[nn.Module, str, Any]] = []

    def change(module: nn.Module, name: str, value: Any) -> None:
        changed.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    if type(getattr(preprocessor, 'batch_augments', None)).__name__ == 'RandomBatchAugment':
        change(preprocessor, 'batch_augments', None)
        change(preprocessor, 'to_onehot', False)
    loss = getattr(head, 'loss_module', None)
    soft = type(loss).__name__ == 'CrossEntropyLoss' and getattr(loss, 'use_soft', False)
    if soft or type(loss).__name__ == 'LabelSmoothLoss':
        from mmpretrain.models.losses import CrossEntropyLoss

        change(head, 'loss_module', CrossEntropyLoss())
        if getattr(preprocessor, 'to_onehot', False):
            change(preprocessor, 'to_onehot', False)
    try:
        yield
    finally:
        for module, name, value in reversed(changed):
            setattr(module, name, value)

"""Whole runs of MMEngine with the hook for sparse training on a tiny network; also a script for runs in a process."""

import copy
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from children import in_children
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmlk  # noqa: F401

ADAMW = dict(type='AdamW', lr=1e-2, weight_decay=0.01)
EMA = dict(type='EMAHook', momentum=0.25)


class Pictures(Dataset):
    """Pictures of noise with a class each; ``reads`` lists the indices that were asked for."""

    def __init__(self, size=16):
        self.size = size
        self.reads = []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        self.reads.append(index)
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(3, 8, 8, generator=generator), labels=index % 5)


class Network(BaseModel):
    """A stem, a depthwise and a pointwise convolution in ``backbone``, and a linear classifier in ``head``.

    Args:
        frozen_norm: The norm uses its stored statistics.
        dtype: Of the weights.
    """

    def __init__(self, frozen_norm=False, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 7, padding=3, groups=8),
            nn.GELU(),
            nn.Conv2d(8, 16, 1),
            nn.GELU(),
        )
        self.head = nn.Sequential(nn.Linear(16, 5))
        self.frozen_norm = frozen_norm
        self.calls = 0
        self.infinite_at = ()
        self.to(dtype)

    def train(self, mode=True):
        super().train(mode)
        if self.frozen_norm:
            self.backbone[1].eval()
        return self

    def forward(self, inputs, labels, mode='tensor'):
        self.calls += 1
        dtype = self.backbone[0].weight.dtype
        x = self.backbone(torch.stack(inputs).to(dtype)).mean((2, 3))
        logits = self.head(x)
        if mode != 'loss':
            return logits
        loss = nn.functional.cross_entropy(logits, torch.tensor(labels))
        return dict(loss=loss * (float('inf') if self.calls in self.infinite_at else 1.0))


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(AmpOptimWrapper):
    """Mixed precision as MMEngine has it, without its assertion that there is a GPU."""

    def __init__(self, dtype='bfloat16', init_scale=1.0, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)
        self.cast_dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model):
        with OptimWrapper.optim_context(self, model), torch.autocast('cpu', dtype=self.cast_dtype):
            yield


class Probe(Hook):
    """Calls a function after every iteration, when all other hooks are done."""

    priority = 'LOWEST'

    def __init__(self, function):
        self.function = function

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.function(runner, runner.iter + 1)


def sparsity(**arguments):
    """Config of the hook: half of the weights, an update every 10 steps."""
    return dict(type='mmlk.DynamicSparsityHook') | (
        dict(sparsity=0.5, init='uniform', interval=10) | arguments if 'mode' not in arguments else arguments
    )


def runner(
    folder, *hooks, model=None, optim_wrapper=None, batch_size=2, dataset=None, by_epoch=False, length=50, **more
):
    """A runner of ``length`` iterations, or epochs."""
    loader = dict(
        batch_size=batch_size,
        num_workers=0,
        dataset=Pictures() if dataset is None else dataset,
        # In a fixed order, so that two processes see what one does.
        sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=by_epoch),
        collate_fn=dict(type='pseudo_collate'),
    )
    checkpoint = dict(type='CheckpointHook', by_epoch=by_epoch, interval=more.pop('save_every', -1), save_last=False)
    return Runner(
        model=Network() if model is None else model,
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=by_epoch, **{'max_epochs' if by_epoch else 'max_iters': length}),
        optim_wrapper=copy.deepcopy(optim_wrapper or dict(optimizer=ADAMW)),
        custom_hooks=list(hooks),
        default_hooks=dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=10)),
        log_processor=dict(by_epoch=by_epoch),
        default_scope='mmengine',
        experiment_name=f'{folder.name}{len(MMLogger._instance_dict)}',
        randomness=more.pop('randomness', dict(seed=0)),
        **more,
    )


def hook_of(run):
    """The hook for sparse training of a runner."""
    return next(hook for hook in run.hooks if type(hook).__name__ == 'DynamicSparsityHook')


def interruptible(folder, kind, *hooks, **more):
    """The run that is killed and resumed: by ``'epoch'`` or by ``'iteration'``, saved now and then."""
    schedule = dict(type='CosineAnnealingLR', T_max=8 if kind == 'epoch' else 60, by_epoch=kind == 'epoch')
    arguments = sparsity(interval=7, init='snip', growth='gradient' if kind == 'epoch' else 'random')
    return runner(
        folder,
        arguments,
        *([EMA] if kind == 'epoch' else []),
        *hooks,
        by_epoch=kind == 'epoch',
        length=8 if kind == 'epoch' else 60,
        save_every=2 if kind == 'epoch' else 20,
        param_scheduler=schedule,
        **more,
    )


def kill_at(iteration):
    """A probe that kills the process as ``kill -9`` does."""

    def kill(run, done):
        if done == iteration:
            os.kill(os.getpid(), signal.SIGKILL)

    return Probe(kill)


#: Iteration at which a run by epochs and one by iterations are killed.
KILLED_AT = {'epoch': 37, 'iteration': 46}


def main():
    """Runs below the folder of the command line, killed on the way."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    runs = [
        lambda kind=kind, at=at: interruptible(folder / kind, kind, kill_at(at)).train()
        for kind, at in KILLED_AT.items()
    ]
    if in_children(*runs) != [-signal.SIGKILL] * len(runs):
        sys.exit('a run was not killed')


if __name__ == '__main__':
    main()

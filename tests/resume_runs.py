"""Training runs with every kind of random numbers, for tests of runs that are cut off and resumed."""

import random
from pathlib import Path

import numpy as np
import sparse_runs
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import METRICS
from mmengine.runner import Runner
from timm.layers import DropPath
from torch import nn

from mmlk.checkpoints.resumable import find_newest_resumable

PICTURES = 18
BATCH = 2


class Pictures(sparse_runs.Pictures):
    """Noise with a class each, augmented with random numbers of all three libraries."""

    def __init__(self, size=PICTURES):
        super().__init__(size)

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        sample['inputs'] *= random.uniform(0.5, 1.5)
        sample['inputs'] += float(np.random.normal()) * 0.1 + 0.1 * torch.rand(1)
        return sample


class Network(BaseModel):
    """Drop path, dropout, a BatchNorm and a buffer that makes checkpoints take time to write.

    Args:
        ballast: Size of the buffer in MiB.
    """

    def __init__(self, ballast=0):
        super().__init__()
        # It is built before the runner sets the seed.
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.mixer = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.drop_path = DropPath(0.3)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(8, 5)
        self.register_buffer('ballast', torch.zeros(ballast * 2**18))

    def forward(self, inputs, labels, mode='tensor'):
        x = self.norm(self.stem(torch.stack(inputs)))
        x = x + self.drop_path(nn.functional.gelu(self.mixer(x)))
        logits = self.head(self.dropout(x.mean((2, 3))))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(logits, torch.tensor(labels)))
        # As networks that are tested with random numbers, which must not reach the training.
        return [dict(score=float(row.mean()) + random.random() + float(torch.rand(1))) for row in logits]


@METRICS.register_module()
class MeanScore(BaseMetric):
    """The mean of what the network gives."""

    def process(self, data_batch, data_samples):
        self.results += [sample['score'] + np.random.random() for sample in data_samples]

    def compute_metrics(self, results):
        return dict(mean=float(np.mean(results)))


def runner(folder, kind, workers=0, ballast=0, hooks=(), length=None, seed=0, resume=True, **more):
    """A run that is resumed from the newest checkpoint in its folder, if there is one.

    Args:
        folder: Work directory.
        kind: ``'iteration'``, ``'epoch'``, or ``'within epoch'`` for epochs saved after iterations.
        workers: Worker processes.
        ballast: See :class:`Network`.
        hooks: Custom hooks besides the average of weights.
        length: Iterations (40 by default), or epochs (5) of 9 iterations.
        seed: Of the run; ``None`` has it drawn.
        resume: Look for a checkpoint.
        **more: Entries of the runner.
    """
    by_epoch = kind != 'iteration'
    length = length or (5 if by_epoch else 40)
    newest = find_newest_resumable(folder)[0] if resume else None
    loader = dict(batch_size=BATCH, num_workers=workers, collate_fn=dict(type='pseudo_collate'))
    train_cfg = dict(type='mmlk.EpochBasedTrainLoop', max_epochs=length, val_interval=2)
    if not by_epoch:
        train_cfg = dict(type='mmlk.IterBasedTrainLoop', max_iters=length, val_interval=10)
    checkpoint = dict(type='mmlk.CheckpointHook', by_epoch=kind == 'epoch', interval=1, max_keep_ckpts=2)
    if kind != 'epoch':
        checkpoint['interval'] = 4
    arguments = dict(
        model=Network(ballast),
        work_dir=str(folder),
        train_dataloader=loader
        | dict(
            dataset=Pictures(), sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)
        ),
        val_dataloader=loader | dict(dataset=Pictures(4), sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(),
        val_evaluator=dict(type='MeanScore'),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=length, by_epoch=by_epoch),
        custom_hooks=[dict(type='EMAHook', momentum=0.1), *hooks],
        default_hooks=dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=5)),
        log_processor=dict(by_epoch=by_epoch),
        default_scope='mmengine',
        experiment_name=f'{Path(folder).name}{len(MMLogger._instance_dict)}',
        randomness=dict(seed=seed),
        resume=newest is not None,
        load_from=newest and str(newest),
    )
    return Runner(**arguments | more)


def end_state(folder):
    """What a finished run has left: weights, averages, optimizer, schedule, metrics and losses."""
    path, refused = find_newest_resumable(folder)
    assert not refused, refused
    from mmlk.compat.checkpoint_loader import load_checkpoint_file

    checkpoint = load_checkpoint_file(path)
    hub = checkpoint['message_hub']
    scalars = {name: buffer.data[0].tolist() for name, buffer in hub['log_scalars'].items() if 'time' not in name}
    parts = {name: checkpoint[name] for name in ('state_dict', 'optimizer', 'param_schedulers')}
    parts |= {name: checkpoint[name] for name in ('ema_state_dict',) if name in checkpoint}
    return parts | dict(name=path.name, scalars=scalars, random=checkpoint['training_state']['random'])


def differences(first, second, path=''):
    """Where two nested structures differ, bit by bit."""
    if type(first) is not type(second):
        return [f'{path}: {type(first).__name__} and {type(second).__name__}']
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [path]
    if isinstance(first, np.ndarray):
        return [] if np.array_equal(first, second) else [path]
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f'{path}: keys {sorted(map(str, first.keys() ^ second.keys()))}']
        return [line for key in first for line in differences(first[key], second[key], f'{path}.{key}')]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [f'{path}: {len(first)} and {len(second)} entries']
        pairs = enumerate(zip(first, second))
        return [line for index, (a, b) in pairs for line in differences(a, b, f'{path}[{index}]')]
    return [] if first == second else [f'{path}: {first} and {second}']

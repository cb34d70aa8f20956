"""A script: two processes that train sparsely together, brought together by a file."""

import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from children import in_children
from mmengine.model import MMDistributedDataParallel
from sparse_runs import ADAMW, Network, hook_of, runner, sparsity

#: Name -> arguments of the hook, optimizer.
RUNS = {
    'random': (dict(init='erk', interval=5), ADAMW),
    'gradient': (dict(init='erk', interval=5, growth='gradient'), ADAMW),
    'snip': (dict(init='snip', interval=5), ADAMW),
    # Each process keeps the moments of half of the weights.
    'zero': (
        dict(init='erk', interval=5),
        dict(type='ZeroRedundancyOptimizer', optimizer_type='AdamW', lr=1e-2, weight_decay=0.01),
    ),
    'other seeds': (dict(init='erk', interval=5), ADAMW),
}


def train(folder, name, batch_size, model):
    """20 steps, in float64 and with a frozen norm, so that only the order of sums differs between one and two."""
    arguments, optimizer = RUNS[name]
    # A seed of its own in every process; masks are those of the first.
    randomness = dict(seed=3, diff_rank_seed=name == 'other seeds')
    run = runner(
        folder,
        sparsity(**arguments),
        model=model,
        optim_wrapper=dict(optimizer=optimizer),
        batch_size=batch_size,
        length=20,
        randomness=randomness,
    )
    run.train()
    return run


def network():
    """The network of these runs."""
    return Network(frozen_norm=True, dtype=torch.float64)


def train_together(folder, rank):
    """All runs, as one of the two processes; what they end with goes to a file."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder / "store"}', rank=rank, world_size=2)
    found = {}
    for name in RUNS:
        model = MMDistributedDataParallel(network(), device_ids=None)
        training = hook_of(train(folder / name, name, 2, model)).training
        weights = {name: value.clone() for name, value in model.module.state_dict().items()}
        found[name] = dict(weights=weights, **training.state_dict(), seed=training.seed, density=training.density())
    torch.save(found, folder / f'process{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    target = Path(sys.argv[1])
    if any(in_children(*(partial(train_together, target, rank) for rank in range(2)))):
        sys.exit('a process failed')

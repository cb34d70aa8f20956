"""Runs that meet values that are not finite; also a script: two processes, of which one does."""

import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from children import in_children
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.structures import BaseDataElement
from sparse_runs import runner
from torch import nn
from torch.utils.data import Dataset

from mmlk.errors import TrainingStopped

HOOK = dict(type='mmlk.FiniteLossHook')
SGD = dict(type='SGD', lr=1e-2)


class Files(Dataset):
    """Noise with a file name and a class; ``special`` maps an index to a number that the first pixel has."""

    def __init__(self, special=None, labels=None, size=16):
        self.special = special or {}
        self.labels = labels or {}
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        inputs = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(index))
        inputs[0, 0, 0] = self.special.get(index, 0.0)
        sample = BaseDataElement(metainfo=dict(img_path=f'{index}.jpg'))
        sample.set_field(self.labels.get(index, index % 5), 'label')
        return dict(inputs=inputs, data_samples=sample)


class Root(nn.Module):
    """The identity where the first number of a sample is below 100, NaN where it is above, but only for that sample."""

    def forward(self, x):
        return x + 0 * torch.sqrt(100 - x[:, :1, :1, :1])


class _BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bad):
        ctx.bad = bad
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float('nan') if ctx.bad else gradient, None


class Classifier(BaseModel):
    """A backbone with a root, a norm, dropout and a convolution, and a head; ``seen`` are the masks of dropout.

    Args:
        bad_gradient: The gradient behind the convolution is NaN where a first pixel is above 50; the loss is finite.
    """

    def __init__(self, bad_gradient=False):
        super().__init__(data_preprocessor=dict(type='ImgDataPreprocessor'))
        torch.manual_seed(0)
        self.backbone = nn.ModuleDict(
            dict(
                root=Root(),
                norm=nn.BatchNorm2d(3),
                drop=nn.Dropout(0.5),
                conv=nn.Conv2d(3, 8, 3, padding=1),
            )
        )
        self.head = nn.Linear(8, 5)
        self.loss = nn.CrossEntropyLoss(ignore_index=255)
        self.bad_gradient = bad_gradient
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.backbone['norm'](self.backbone['root'](inputs))
        self.seen.append(self.backbone['drop'](torch.ones_like(x)))
        x = self.backbone['conv'](x * self.seen[-1])
        if self.bad_gradient:
            x = _BadGradient.apply(x, bool((inputs[:, 0, 0, 0] > 50).any()))
        logits = self.head(x.mean((2, 3)))
        if mode != 'loss':
            return logits
        return dict(loss_cls=self.loss(logits, torch.tensor([sample.label for sample in data_samples])))


def finite_runner(folder, model=None, dataset=None, hook=HOOK, **more):
    """A runner of 8 iterations with the hook, over files in order, two at a time, or what else the model takes."""
    model = model or Classifier()
    if dataset is None and isinstance(model, Classifier):
        dataset = Files()
    more = dict(length=8, optim_wrapper=dict(optimizer=SGD)) | more
    return runner(folder, dict(hook), *more.pop('hooks', ()), model=model, dataset=dataset, **more)


def train_together(folder, rank):
    """As one of two processes, of which one meets a NaN in iteration 3; what stopped it goes to a file."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder / "store"}', rank=rank, world_size=2)
    model = MMDistributedDataParallel(Classifier(), device_ids=None)
    # Files are dealt out in turn: 8 and 10 are iteration 3 of the first process.
    run = finite_runner(folder / 'run', model, Files({10: 1000.0}))
    try:
        run.train()
    except TrainingStopped as stop:
        weights = {name: value.clone() for name, value in model.module.state_dict().items()}
        torch.save(dict(message=str(stop), status=stop.status, weights=weights), folder / f'process{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    target = Path(sys.argv[1])
    if any(in_children(*(partial(train_together, target, rank) for rank in range(2)))):
        sys.exit('a process failed')

"""Training data in an order, and with random numbers, that follow from a position: any of them can be skipped."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from mmlk.engine.random_state import seeded

#: Seconds that a worker outlives SIGTERM, so that the main process can finish an iteration and save.
GRACE_PERIOD = 60
#: Of prctl(2): the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1

#: A number in memory that processes share, from :func:`shared_flag`.
Running = Any


def shared_flag() -> Running:
    """Zero, in the attribute ``value``, for this process and its workers, forked or spawned."""
    return multiprocessing.RawValue('b', 0)


class Sample(NamedTuple):
    """Which sample to read.

    Attributes:
        index: Of the sample in the data set, as the sampler gave it.
        key: What its random numbers follow from.
    """

    index: Any
    key: tuple[int, ...]


class SeededDataset(Dataset):
    """A data set that augments a :class:`Sample` with random numbers of its own, in whatever process.

    Everything else is that of the data set inside, setting attributes included: hooks that exchange the pipeline of a
    data set during training reach the right one.
    """

    def __init__(self, dataset: Dataset) -> None:
        vars(self)['_dataset'] = dataset

    def __getitem__(self, item: Any) -> Any:
        if not isinstance(item, Sample):
            return self._dataset[item]
        with seeded(item.key):
            return self._dataset[item.index]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        # Without the second condition unpickling would ask for ever; __getitems__ would go past __getitem__.
        if name.startswith('__') or '_dataset' not in vars(self):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._dataset, name, value)


class BatchStream:
    """The batches of a batch sampler as :class:`Sample`, from a position on; stands in for the batch sampler.

    The random numbers of a sample follow from (seed, epoch, place in the global order), so they are the same in one
    process and in several, where MMEngine's samplers deal the samples out in turn.

    Args:
        batches: The batch sampler.
        sampler: The sampler below it.
        seed: The same in all processes.
        endless: Start over at the end, as loops that count iterations need it; the epoch in the key stays 0.

    Attributes:
        epoch: Of the next iteration over the stream.
        skip: Batches that the next iteration over the stream leaves out; their samples are not read.
    """

    def __init__(self, batches: Iterable[list], sampler: Sampler | Iterable, seed: int, endless: bool) -> None:
        self.batches = batches
        self.sampler = sampler
        self.seed = seed
        self.endless = endless
        self.epoch = 0
        self.skip = 0

    def __iter__(self) -> Iterator[list[Sample]]:
        skip, rank, world_size = self.skip, get_rank(), get_world_size()
        end = 0
        for number, batch in enumerate(self._indices()):
            start, end = end, end + len(batch)
            if number >= skip:
                places = range(start * world_size + rank, end * world_size + rank, world_size)
                yield [Sample(index, (self.seed, self.epoch, place)) for index, place in zip(batch, places)]

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def batch_size(self) -> int | None:
        """What MMEngine's flexible runner asks for."""
        return getattr(self.batches, 'batch_size', None)

    def _indices(self) -> Iterator[list]:
        if isinstance(self.sampler, InfiniteSampler):
            # It would go on where the last iterator over it, or the workers behind that, have stopped.
            self.sampler.indices = self.sampler._indices_of_rank()
        if not self.endless:
            self._set_epoch(self.epoch)
            yield from self.batches
            return
        epoch = 0
        while True:
            self._set_epoch(epoch)
            empty = True
            for batch in self.batches:
                empty = False
                yield batch
            if empty:
                return
            epoch += 1

    def _set_epoch(self, epoch: int) -> None:
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """The seeds; the position is the loop's."""
        return dict(seed=self.seed, sampler_seed=getattr(self.sampler, 'seed', None))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the seeds of the run that is resumed, which may have been drawn."""
        self.seed = int(state['seed'])
        if state['sampler_seed'] is not None and hasattr(self.sampler, 'seed'):
            self.sampler.seed = int(state['sampler_seed'])


class SeededDataLoader(DataLoader):
    """A data loader that can start at any batch without reading those before it.

    Args:
        loader: The loader to do it like. It is not used any more.
        seed: See :class:`BatchStream`.
        endless: See :class:`BatchStream`.
        running: See :class:`WorkerStart`.
    """

    def __init__(self, loader: DataLoader, seed: int, endless: bool, running: Running) -> None:
        # Batch samplers of a config have no sampler by that name if somebody wrote them so.
        sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
        super().__init__(
            SeededDataset(loader.dataset),
            batch_sampler=BatchStream(loader.batch_sampler, sampler, seed, endless),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=WorkerStart(loader.worker_init_fn, running) if loader.num_workers else None,
            multiprocessing_context=loader.multiprocessing_context,
            # Otherwise every start of the workers would draw a number from the generator of the training.
            generator=torch.Generator(),
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
            pin_memory_device=loader.pin_memory_device,
        )
        # What hooks ask for; torch has them as None where there is a batch sampler.
        vars(self).update(batch_size=loader.batch_size, sampler=sampler, drop_last=loader.drop_last)

    def __iter__(self) -> Iterator:
        # As a generator, workers start with the first batch that is asked for, not before a position is known.
        self._started = super().__iter__()
        yield from self._started

    def move_to(self, epoch: int, skip: int) -> None:
        """The next iteration over the loader is over this epoch and leaves out this many batches."""
        self.batch_sampler.epoch = epoch
        self.batch_sampler.skip = skip


def end_workers(loader: DataLoader) -> None:
    """End the workers of a loader, if there are any.

    Those that are left to the end of the process do not hear of it, and torch waits five seconds for each.
    """
    for name in ('_started', '_iterator'):
        iterator = getattr(loader, name, None)
        if hasattr(iterator, '_shutdown_workers'):
            iterator._shutdown_workers()
            setattr(loader, name, None)


def can_be_seeded(loader: DataLoader) -> bool:
    """Whether samples have places: the loader makes batches of the samples of a data set with indices."""
    return loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset)


class WorkerStart:
    """Prepares a worker; an object and not a closure, because workers may have to unpickle it.

    A terminal and a job scheduler signal all processes of a run, and the main process decides when it ends: while
    ``running`` is set, SIGINT is ignored and SIGTERM leaves the worker a minute. A worker does not outlive a main
    process that was killed (Linux).

    Args:
        then: What else prepares it.
        running: Shared with the main process.
    """

    def __init__(self, then: Callable[[int], None] | None, running: Running) -> None:
        self.then = then
        self.running = running

    def __call__(self, worker_id: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._terminate)
        if sys.platform == 'linux':
            # torch's own watch over the main process needs a worker that is awake; it may wait for a lock for ever.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if self.then is not None:
            self.then(worker_id)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        if self.running.value:
            signal.alarm(GRACE_PERIOD)
        else:
            # As a worker ends that its main process terminates.
            os._exit(0)

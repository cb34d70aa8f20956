"""The random numbers of Python, NumPy and PyTorch: kept, put back, and kept apart."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RandomState:
    """The states of the global generators of this process.

    Attributes:
        python: Of ``random``.
        numpy: Of ``numpy.random``.
        torch: Of PyTorch on the CPU, uint8.
        cuda: Of PyTorch on the current CUDA device, uint8; ``None`` where CUDA has not been used.
    """

    python: tuple
    numpy: tuple
    torch: torch.Tensor
    cuda: torch.Tensor | None = None

    @classmethod
    def now(cls, cuda: bool = True) -> RandomState:
        """The states as they are, that of the device only if ``cuda``."""
        # Asking an unused device for its state would set it up.
        device = torch.cuda.get_rng_state() if cuda and torch.cuda.is_initialized() else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), device)

    def restore(self) -> None:
        """Put the states back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.cuda)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: numbers, strings, tensors and an array, which loading admits."""
        return dict(python=self.python, numpy=self.numpy, torch=self.torch, cuda=self.cuda)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> RandomState:
        """The inverse of :meth:`state_dict`.

        Raises:
            KeyError: A state is missing.
            TypeError: A state is not what the generators give.
        """
        version, words, gauss = state['python']
        cuda = state['cuda']
        return cls(
            (version, tuple(words), gauss),
            tuple(state['numpy']),
            state['torch'].cpu(),
            None if cuda is None else cuda.cpu(),
        )


@contextmanager
def kept_random_state() -> Iterator[RandomState]:
    """Put the states back at the end of the block, as if it had drawn no number; yields them."""
    state = RandomState.now()
    try:
        yield state
    finally:
        state.restore()


def seed_everything(*key: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch on the CPU from a key of non-negative integers.

    Keys that differ in any place give unrelated numbers, which sums of seeds and indices do not.
    """
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int.from_bytes(words.tobytes(), 'little'))
    np.random.seed(words)
    # torch.manual_seed would seed the devices as well, at the cost of a call to each.
    torch.random.default_generator.manual_seed(int(words[0]) << 32 | int(words[1]))


@contextmanager
def seeded(key: Sequence[int]) -> Iterator[None]:
    """Random numbers on the CPU follow from the key; after the block the generators go on as if there had been none."""
    state = RandomState.now(cuda=False)
    seed_everything(*key)
    try:
        yield
    finally:
        state.restore()

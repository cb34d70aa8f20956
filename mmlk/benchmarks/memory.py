"""Peak memory of a call."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import torch

_INTERVAL_SECONDS = 0.002


def peak_mib(run: Callable[[], object], device: str) -> float | None:
    """MiB that a call needs at its peak.

    On a GPU the peak of all allocated memory, the model included. On the CPU how far the resident memory of the process
    grows, sampled every 2 ms, so the model is not included; ``None`` where the system does not tell.
    """
    gc.collect()
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**20
    _return_freed_memory()
    before = _resident_bytes()
    if before is None:
        run()
        return None
    sampler = _Sampler(before)
    sampler.start()
    try:
        run()
    finally:
        sampler.stopped.set()
        sampler.join()
    return max(0.0, (sampler.peak - before) / 2**20)


class _Sampler(threading.Thread):
    """Watches the resident memory until it is stopped."""

    def __init__(self, before: int) -> None:
        super().__init__(daemon=True)
        self.peak = before
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(_INTERVAL_SECONDS):
            self.peak = max(self.peak, _resident_bytes() or 0)
        self.peak = max(self.peak, _resident_bytes() or 0)


def _resident_bytes() -> int | None:
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf('SC_PAGE_SIZE')


def _return_freed_memory() -> None:
    """Give back what the allocator keeps of earlier calls, or the next one would not be seen to need it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        pass

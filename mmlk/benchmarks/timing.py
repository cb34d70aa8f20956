"""Clocks, interleaved repetition, and the rates of the machine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from mmlk.benchmarks.roofline import Ceilings

#: A run that takes longer is not repeated.
SLOW_SECONDS = 5.0
MAX_REPEATS = 50
#: Fewest runs of what takes at most so many seconds.
_FEWEST = ((0.2, 5), (1.0, 3), (SLOW_SECONDS, 2))

#: Written before every run on a GPU: more than any L2 cache, and long enough (about 0.5 ms at 3 TB/s) for Python to
#: have queued the run before the device begins it.
FLUSH_BYTES = 3 << 29

#: Sizes of the copy and of the matrix products that measure a machine: far beyond its caches, large enough for its
#: arithmetic units.
COPY_BYTES = 1 << 28
GEMM_EDGE = {'cpu': 2048, 'cuda': 8192}
_CEILING_REPEATS = 7


@dataclass
class Timing:
    """Times of one implementation in one pass, in seconds."""

    seconds: list[float] = field(default_factory=list)
    note: str = ''

    @property
    def median_ms(self) -> float:
        return 1e3 * statistics.median(self.seconds)

    @property
    def min_ms(self) -> float:
        return 1e3 * min(self.seconds)

    @property
    def repeats(self) -> int:
        return len(self.seconds)

    def record(self) -> dict:
        """For the result file."""
        record = {'median_ms': self.median_ms, 'min_ms': self.min_ms, 'repeats': self.repeats}
        return record | ({'note': self.note} if self.note else {})


class CpuClock:
    """Times with the host's clock."""

    device = 'cpu'

    def synchronize(self) -> None:
        """Nothing is pending on a CPU."""

    def time(self, run: Callable[[], object]) -> Callable[[], float]:
        """Run once; the answer gives the seconds when called."""
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        return lambda: seconds


class CudaClock:
    """Times with events on the current stream, the L2 cache flushed before each run."""

    device = 'cuda'

    def __init__(self) -> None:
        total = torch.cuda.get_device_properties(0).total_memory
        self._flush = torch.empty(min(FLUSH_BYTES, total // 16), dtype=torch.int8, device='cuda')

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize()

    def time(self, run: Callable[[], object]) -> Callable[[], float]:
        """Queue one run; the answer waits for it and gives the seconds when called."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        start.record()
        run()
        end.record()

        def seconds() -> float:
            end.synchronize()
            return start.elapsed_time(end) / 1e3

        return seconds


Clock = CpuClock | CudaClock


def make_clock(device: str) -> Clock:
    """The clock of ``'cpu'`` or ``'cuda'``."""
    return CudaClock() if device == 'cuda' else CpuClock()


@contextmanager
def no_garbage_collection():
    """Keep Python's collector out of the measurement."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


#: A run faster than this is preceded by one of its own that is not timed.
WARM_SECONDS = 0.05


def repeats_for(seconds: float, budget: float) -> int:
    """How often a run of ``seconds`` is timed, if ``budget`` seconds are there for it."""
    fewest = next((count for limit, count in _FEWEST if seconds <= limit), 1)
    return max(fewest, min(MAX_REPEATS, int(budget / max(seconds, 1e-6))) if fewest > 1 else 1)


def interleave(
    clock: Clock,
    ours: Callable[[], object],
    others: dict[str, Callable[[], object]],
    estimates: dict[str, float],
    budget: float,
) -> tuple[Timing, dict[str, Timing]]:
    """Time ``ours`` and ``others`` in turns: ours, a, ours, b, ours, a, ... so that all see the same machine.

    Args:
        clock: Clock of the device.
        ours: What is measured most often.
        others: By name.
        estimates: Seconds of one run of each of ``others``, and of ours under ``'ours'``.
        budget: Seconds per implementation.

    Returns:
        Timing of ours, timings of the others.
    """
    wanted = {name: repeats_for(estimates[name], budget) for name in others}
    fewest = repeats_for(estimates['ours'], budget)
    most = max(fewest, int(len(others) * budget / max(estimates['ours'], 1e-6)))
    pending: list[tuple[str, Callable[[], float]]] = []
    own = 0
    with no_garbage_collection():
        for turn in range(max([fewest, *wanted.values()])):
            due = [name for name in others if turn < wanted[name]]
            for name in due or [None]:
                if own < most:
                    pending.append(('ours', _time_warm(clock, ours, estimates['ours'])))
                    own += 1
                if name is not None:
                    pending.append((name, _time_warm(clock, others[name], estimates[name])))
        clock.synchronize()
    timings = {name: Timing() for name in ('ours', *others)}
    for name, seconds in pending:
        timings[name].seconds.append(seconds())
    return timings.pop('ours'), timings


def _time_warm(clock: Clock, run: Callable[[], object], estimate: float) -> Callable[[], float]:
    # In turns, a run finds the caches and the clock rate that the other implementation left, and ours would mostly
    # follow the slow ones. On a GPU the cache is flushed before each run anyway.
    if clock.device == 'cpu' and estimate < WARM_SECONDS:
        run()
    return clock.time(run)


#: Just below the largest block (32 MiB with its header) by which glibc still raises its limits when it is freed.
_RAISING_BYTES = 31 << 20


def touch_memory(size: int) -> None:
    """Bring memory and allocator into the state of a process that has worked for a while.

    ``size`` bytes are written once and freed: memory that a virtual machine has never used is slow the first time. Then
    a block of 31 MiB is freed: from then on glibc keeps what is freed, up to twice as much. Before, it gives memory
    back after a call and takes page faults in the next, and how many depends on what ran earlier in the process.
    """
    for block in (size, min(size, _RAISING_BYTES)):
        torch.empty(block, dtype=torch.int8).fill_(1)


def measure_ceilings(clock: Clock, dtype: torch.dtype) -> Ceilings:
    """The rates of this machine: a copy, and products of square matrices."""
    single = torch.float64 if dtype == torch.float64 else torch.float32
    fma = _gemm_rate(clock, single)
    matrix = fma
    if dtype == torch.bfloat16 or (dtype == torch.float16 and clock.device == 'cuda'):
        matrix = _gemm_rate(clock, dtype)
    elif clock.device == 'cuda' and dtype == torch.float32:
        # Three products in TF32 give one with float32's accuracy.
        matrix = max(fma, _gemm_rate(clock, dtype, tf32=True) / 3)
    return Ceilings(_copy_rate(clock), fma, max(fma, matrix))


def _copy_rate(clock: Clock) -> float:
    """Bytes per second, read plus written, of the fastest of several copies."""
    source = torch.empty(COPY_BYTES // 4, device=clock.device).normal_()
    target = torch.empty_like(source).copy_(source)
    runs = [clock.time(lambda: target.copy_(source)) for _ in range(_CEILING_REPEATS)]
    return 2 * COPY_BYTES / min(run() for run in runs)


def _gemm_rate(clock: Clock, dtype: torch.dtype, tf32: bool = False) -> float:
    """FLOP/s of the fastest of several products of square matrices."""
    edge = GEMM_EDGE[clock.device]
    a, b = (torch.randn(edge, edge, device=clock.device).to(dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        a @ b
        runs = [clock.time(lambda: a @ b) for _ in range(_CEILING_REPEATS)]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * edge**3 / min(run() for run in runs)

import pytest
import torch

from mmlk.benchmarks import timing
from mmlk.benchmarks.timing import CpuClock, Timing, interleave, measure_ceilings, repeats_for


class FakeClock:
    """Every run takes the seconds that it returns."""

    device = 'cpu'

    def synchronize(self):
        pass

    def time(self, run):
        seconds = run()
        return lambda: seconds


def test_turns_and_counts():
    calls = []

    def make(name, seconds):
        return lambda: calls.append(name) or seconds

    seconds = {'ours': 0.01, 'fast': 0.02, 'long': 2.0}
    runs = {name: make(name, each) for name, each in seconds.items()}
    own, others = interleave(FakeClock(), runs.pop('ours'), runs, seconds, budget=0.1)
    # What is fast runs once untimed before.
    assert calls[:9] == ['ours', 'ours', 'fast', 'fast', 'ours', 'ours', 'long', 'ours', 'ours']
    assert (others['fast'].repeats, others['long'].repeats) == (5, 2)
    assert own.repeats >= 10
    assert (own.median_ms, others['fast'].min_ms, others['long'].median_ms) == pytest.approx((10, 20, 2000))


def test_a_slow_op_does_not_run_before_every_baseline():
    own, others = interleave(FakeClock(), lambda: 6.0, {'a': lambda: 0.01}, {'ours': 6.0, 'a': 0.01}, budget=0.3)
    assert (own.repeats, others['a'].repeats) == (1, 30)


def test_alone():
    own, others = interleave(FakeClock(), lambda: 0.1, {}, {'ours': 0.1}, budget=1.0)
    assert (own.repeats, others) == (10, {})


@pytest.mark.parametrize(
    ('seconds', 'repeats'), [(6.0, 1), (2.0, 2), (0.5, 3), (0.1, 5), (0.02, 15), (1e-4, 50), (0.0, 50)]
)
def test_repeats(seconds, repeats):
    assert repeats_for(seconds, budget=0.3) == repeats


def test_record():
    assert Timing([0.001, 0.004, 0.002]).record() == {
        'median_ms': pytest.approx(2),
        'min_ms': pytest.approx(1),
        'repeats': 3,
    }
    assert Timing([1.0], 'first run').record()['note'] == 'first run'


def test_cpu_clock_measures():
    clock = CpuClock()
    a = torch.randn(300, 300)
    short, long = (min(clock.time(lambda n=n: [a @ a for _ in range(n)])() for _ in range(5)) for n in (1, 40))
    assert long > 5 * short > 0


def test_ceilings_are_plausible(monkeypatch):
    monkeypatch.setattr(timing, 'COPY_BYTES', 1 << 24)
    monkeypatch.setitem(timing.GEMM_EDGE, 'cpu', 512)
    rates = measure_ceilings(CpuClock(), torch.float32)
    assert 1e8 < rates.bytes_per_s < 1e13
    assert 1e9 < rates.fma_flops == rates.matrix_flops < 1e14

import pytest

from mmlk.sparsity import ConstantPruneRate, CosinePruneRate, UpdateSchedule


def test_cosine_falls_from_the_initial_to_the_final_rate():
    rate = CosinePruneRate(0.5, total_steps=8)
    # 0.005 + 0.2475 * (1 + cos(pi t / 8)), by hand.
    expected = [0.5, 0.48116, 0.42751, 0.34721, 0.2525, 0.15779, 0.07749, 0.02384, 0.005]
    assert [rate(step) for step in range(9)] == pytest.approx(expected, abs=1e-5)
    assert rate(9) == rate(1000) == pytest.approx(0.005)


def test_cosine_never_rises():
    rate = CosinePruneRate(0.001, total_steps=4)
    assert [rate(step) for step in range(5)] == [0.001] * 5
    assert CosinePruneRate(0.0, total_steps=4)(2) == 0


def test_constant():
    assert [ConstantPruneRate(0.3)(step) for step in (0, 5, 500)] == [0.3] * 3


@pytest.mark.parametrize(
    ('interval', 'until', 'expected'),
    [
        (3, None, [3, 6, 9, 12]),
        (3, 9, [3, 6, 9]),
        (3, 8, [3, 6]),
        (1, 2, [1, 2]),
        (13, None, []),
        (None, None, []),
    ],
)
def test_updates_are_due(interval, until, expected):
    schedule = UpdateSchedule(interval, until)
    assert [step for step in range(13) if schedule.due(step)] == expected


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: CosinePruneRate(1.5, 10), r'initial must be a fraction in \[0, 1\], got 1.5'),
        (lambda: CosinePruneRate(0.5, 10, final=-1), r'final must be a fraction in \[0, 1\], got -1'),
        (lambda: CosinePruneRate(0.5, 0), 'total_steps must be at least 1, got 0'),
        (lambda: ConstantPruneRate(float('nan')), r'rate must be a fraction in \[0, 1\], got nan'),
        (lambda: UpdateSchedule(0), 'interval must be at least 1 optimizer step, or None for fixed masks, got 0'),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""The formulas give the figures of a table that was computed independently, for one H100."""

import pytest

from mmlk.benchmarks.roofline import (
    H100,
    PASSES,
    Ceilings,
    bound,
    clipped_flops,
    dense_flops,
    fft_flops,
    fft_length,
    groups_inside,
    minimal_bytes,
    taps_inside,
)

#: N, C, edge, K: dense GF, clipped GF, MB in 16 and 32 bits, memory us in 16 and 32 bits, FFMA us, FFT length, FFT GF.
TABLE = {
    (64, 128, 56, 31): (49.4, 36.7, 103, 206, 31, 61, 547, 72, 2.8),
    (64, 256, 28, 29): (21.6, 11.9, 52, 104, 15, 31, 177, 42, 1.6),
    (64, 512, 14, 27): (9.4, 2.5, 26, 53, 8, 16, 38, 28, 1.3),
    (64, 1024, 7, 13): (1.1, 0.3, 13, 26, 4, 8, 5, 14, 0.5),
    (8, 128, 128, 31): (32.2, 28.5, 67, 135, 20, 40, 425, 144, 1.6),
    (8, 256, 64, 29): (14.1, 11.1, 34, 68, 10, 20, 166, 80, 0.9),
    (8, 512, 32, 27): (6.1, 3.8, 18, 35, 5, 10, 57, 48, 0.6),
    (8, 1024, 16, 13): (0.7, 0.5, 9, 17, 3, 5, 7, 24, 0.2),
    (64, 384, 32, 3): (0.5, 0.4, 101, 201, 30, 60, 6, 36, 1.7),
    (64, 384, 32, 7): (2.5, 2.2, 101, 201, 30, 60, 33, 36, 1.7),
    (64, 384, 32, 13): (8.5, 6.9, 101, 202, 30, 60, 103, 40, 2.2),
    (64, 384, 32, 21): (22.2, 15.5, 101, 202, 30, 60, 232, 42, 2.5),
    (64, 384, 32, 31): (48.4, 27.8, 101, 203, 30, 61, 415, 48, 3.3),
    (64, 48, 56, 51): (50.1, 29.9, 39, 78, 12, 23, 446, 84, 1.5),
    (8, 48, 128, 51): (32.7, 26.5, 25, 51, 8, 15, 396, 160, 0.7),
    (8, 96, 64, 49): (15.1, 9.9, 13, 26, 4, 8, 147, 90, 0.4),
    (8, 192, 32, 47): (6.9, 2.8, 7, 14, 2, 4, 42, 56, 0.3),
    (8, 48, 128, 101): (128.4, 82.7, 26, 52, 8, 16, 1235, 180, 1.0),
    (8, 96, 64, 69): (30.0, 16.0, 13, 27, 4, 8, 239, 98, 0.5),
}


@pytest.mark.parametrize('row', TABLE, ids=str)
def test_table(row):
    n, c, edge, k = row
    dense, clipped, mb16, mb32, us16, us32, ffma, length, fft = TABLE[row]
    size = (n, c, edge, edge, k, k)
    assert round(dense_flops(size) / 1e9, 1) == dense
    assert round(clipped_flops(size) / 1e9, 1) == clipped
    assert [round(minimal_bytes(size, itemsize) / 1e6) for itemsize in (2, 4)] == [mb16, mb32]
    limits = {itemsize: bound(size, itemsize, 'forward', H100) for itemsize in (2, 4)}
    assert [round(1e3 * limits[itemsize].memory_ms) for itemsize in (2, 4)] == [us16, us32]
    # The table divides the rounded figure in places.
    assert 1e3 * limits[4].fma_ms == pytest.approx(ffma, abs=0.5, rel=2e-3)
    assert fft_length(edge, k) == length
    assert round(fft_flops(size) / 1e9, 1) == fft


def test_taps_inside_by_hand():
    # Edge 3, kernel 3: the outer positions meet two taps each, the middle one three.
    assert taps_inside(3, 3) == 7
    # A kernel that covers everything from everywhere: all pairs.
    assert taps_inside(3, 5) == taps_inside(3, 99) == 9
    assert taps_inside(1, 31) == 1


def test_groups_inside_by_hand():
    # Edge 3, taps -2 -1 | 0 | 1 2: the left group meets the map from positions 1 and 2, the right one from 0 and 1.
    assert groups_inside(3, (2, 1, 2)) == 7
    # Taps -3 .. -1 | 0 .. 3: left from 1 and 2, right from everywhere.
    assert groups_inside(3, (3, 4)) == 5
    for edge, kernel in ((3, 3), (3, 5), (9, 5), (1, 31)):
        assert groups_inside(edge, (1,) * kernel) == taps_inside(edge, kernel)


def test_a_sharing_grid_lowers_the_bound():
    size, grid = (2, 3, 8, 8, 7, 7), (2, 1, 1, 1, 2)
    assert clipped_flops(size, grid) == 2 * 2 * 3 * groups_inside(8, grid) ** 2
    shared, dense = (bound(size, 4, 'forward', Ceilings(1.0, 1e3, 1e3), given) for given in (grid, ()))
    assert shared.fma_ms < dense.fma_ms
    assert shared.fft_ms == dense.fft_ms
    # Five parameters along an axis instead of seven.
    assert dense.memory_ms - shared.memory_ms == pytest.approx(1e3 * 4 * 3 * (49 - 25))


def test_axes_are_not_mixed_up():
    wide = (1, 1, 4, 10, 1, 5)
    assert clipped_flops(wide) == 2 * 4 * taps_inside(10, 5)
    assert clipped_flops((1, 1, 10, 4, 5, 1)) == clipped_flops(wide)
    assert minimal_bytes(wide, 4) == 4 * (2 * 40 + 5)


def test_bound_is_the_longer_of_memory_and_the_cheapest_arithmetic():
    size = (64, 128, 56, 56, 31, 31)
    slow_memory = bound(size, 2, 'forward', Ceilings(1e9, 67e12, 989e12))
    assert (slow_memory.bound, slow_memory.bound_ms) == ('memory', slow_memory.memory_ms)
    no_memory = Ceilings(1e18, 67e12, 989e12)
    matrix = bound(size, 2, 'forward', no_memory)
    assert (matrix.bound, matrix.bound_ms) == ('matrix', matrix.matrix_ms)
    assert matrix.matrix_ms == pytest.approx(36.7e9 / 989e12 * 1e3, rel=1e-2)
    fft = bound(size, 4, 'forward', Ceilings(1e18, 67e12, 67e12))
    assert (fft.bound, fft.bound_ms) == ('fft', fft.fft_ms)
    assert bound((1, 1, 9, 9, 3, 3), 4, 'forward', Ceilings(1e18, 1e12, 1e12)).bound == 'fma'


def test_work_of_the_passes():
    size = (2, 3, 8, 8, 5, 5)
    maps, kernels = 4 * 2 * 3 * 64, 4 * 3 * 25
    moved = {name: minimal_bytes(size, 4, name) for name in PASSES}
    assert moved == {
        'forward': 2 * maps + kernels,  # x and w, y
        'grad_input': 2 * maps + kernels,  # dy and w, dx
        'grad_weight': 2 * maps + kernels,  # x and dy, dw
        'backward': 3 * maps + 2 * kernels,  # x, dy and w, dx and dw
        'forward_backward': 5 * maps + 3 * kernels,
    }
    fma = {name: bound(size, 4, name, H100).fma_ms for name in PASSES}
    assert fma['backward'] == pytest.approx(2 * fma['forward'])
    assert fma['forward_backward'] == pytest.approx(3 * fma['forward'])

import pytest

from mmlk.models import make_sharing_grid


@pytest.mark.parametrize(
    ('kernel_size', 'center_radius', 'half'),
    [
        (31, 2, (7, 4, 2, 1, 1, 1)),
        (33, 2, (8, 4, 2, 1, 1, 1)),
        (51, 0, (11, 8, 4, 2, 1)),
        (51, 1, (10, 8, 4, 2, 1, 1)),
        (51, 2, (9, 8, 4, 2, 1, 1, 1)),
        (51, 3, (8, 8, 4, 2, 1, 1, 1, 1)),
        (49, 2, (8, 8, 4, 2, 1, 1, 1)),
        (47, 2, (7, 8, 4, 2, 1, 1, 1)),
        (13, 2, (2, 2, 1, 1, 1)),
        (101, 3, (17, 16, 8, 4, 2, 1, 1, 1, 1)),
        (69, 3, (17, 8, 4, 2, 1, 1, 1, 1)),
        (67, 3, (16, 8, 4, 2, 1, 1, 1, 1)),
        (13, 3, (1, 2, 1, 1, 1, 1)),
    ],
)
def test_grids_of_the_paper(kernel_size, center_radius, half):
    """Half grids from the outside to the centre tap: Fig. 1b, Tables 5 and 6, and what follows by the same rule."""
    grid = make_sharing_grid(kernel_size, center_radius)
    assert grid == half + half[-2::-1]
    assert sum(grid) == kernel_size


@pytest.mark.parametrize('kernel_size', range(1, 152, 2))
def test_every_odd_kernel_has_a_grid(kernel_size):
    for radius in range(min(4, kernel_size // 2 + 1)):
        grid = make_sharing_grid(kernel_size, radius)
        assert sum(grid) == kernel_size
        assert grid == grid[::-1]
        assert all(group >= 1 for group in grid)


def test_bad_input():
    with pytest.raises(ValueError, match='positive odd edges.*got 50'):
        make_sharing_grid(50)
    with pytest.raises(ValueError, match='center_radius must be between 0 and 3 for kernel_size 7, got 4'):
        make_sharing_grid(7, 4)
    with pytest.raises(ValueError, match='base must be at least 2, got 1'):
        make_sharing_grid(7, 1, 1)

"""Area ratios against hand-computed squares, and the protocol written down once more."""

import numpy as np
import pytest

from mmlk.analysis.erf import area_ratios, scale_map


def block(shape, half, centre=None):
    """Ones in the square of side 2 half + 1 around the centre."""
    matrix = np.zeros(shape)
    row, column = centre or (shape[0] // 2, shape[1] // 2)
    matrix[row - half : row + half + 1, column - half : column + half + 1] = 1
    return matrix


def published(matrix, threshold):
    """The authors' search, where it finds something: squares of side 3, 5, .. inside the map."""
    scaled = np.log10(matrix + 1)
    scaled = scaled / scaled.max()
    row, column = scaled.shape[0] // 2, scaled.shape[1] // 2
    for half in range(1, scaled.shape[0] // 2):
        square = scaled[row - half : row + half + 1, column - half : column + half + 1]
        if square.sum() / scaled.sum() > threshold:
            side = 2 * half + 1
            return side, side / scaled.shape[0] * side / scaled.shape[1]
    return None


def sides(matrix, thresholds, scale='linear'):
    return [area.side for area in area_ratios(matrix, thresholds, scale)]


def test_a_uniform_square():
    # 81 pixels: squares of 1, 9, 25, 49 and 81 of them.
    matrix = block((32, 32), 4)
    found = area_ratios(matrix, [0.01, 0.1, 0.3, 0.5, 0.99])
    assert [area.side for area in found] == [(1, 1), (3, 3), (5, 5), (7, 7), (9, 9)]
    assert [area.ratio for area in found] == [s * s / 1024 for s in (1, 3, 5, 7, 9)]
    assert [area.threshold for area in found] == [0.01, 0.1, 0.3, 0.5, 0.99]


def test_more_than_the_share_not_as_much():
    matrix = np.zeros((9, 9))
    matrix[4, 4], matrix[3, 4] = 1, 1
    # The centre alone holds exactly one half.
    assert sides(matrix, [0.49, 0.5]) == [(1, 1), (3, 3)]


@pytest.mark.parametrize('edge', [16, 17, 64])
def test_the_published_search(edge):
    matrix = np.random.default_rng(0).random((edge, edge)) ** 4 * 50
    for threshold in (0.05, 0.2, 0.3, 0.5, 0.7):
        (area,) = area_ratios(matrix, [threshold])
        side, ratio = published(matrix, threshold)
        assert (area.side, area.ratio) == ((side, side), pytest.approx(ratio, rel=1e-12))


def test_a_share_that_no_square_inside_the_map_holds():
    """With even edges, the first row and column are outside of every square: the authors' search finds nothing."""
    matrix = np.ones((16, 16))
    assert published(matrix, 0.99) is None
    (area,) = area_ratios(matrix, [0.99])
    assert (area.side, area.ratio) == ((16, 16), 1.0)
    corner = np.zeros((16, 16))
    corner[0, 0] = 1
    assert sides(corner, [0.2, 0.99]) == [(16, 16)] * 2


@pytest.mark.parametrize('shape', [(9, 21), (21, 9), (8, 20)])
def test_a_map_that_is_not_square(shape):
    """The square is cut off at the near border and grows on along the far one."""
    short, long = min(shape), max(shape)
    inside = block(shape, 2)
    assert sides(inside, [0.99]) == [(5, 5)]
    everywhere = np.ones(shape)
    (area,) = area_ratios(everywhere, [0.7])
    assert sorted(area.side)[0] == short
    assert short < sorted(area.side)[1] < long
    assert area.ratio == pytest.approx(sorted(area.side)[1] / long)
    assert sides(everywhere, [1 - 1e-9]) == [shape]


def test_scales():
    matrix = np.array([[0.0, 9.0], [99.0, 0.0]])
    assert scale_map(matrix).tolist() == [[0, 0.5], [1, 0]]
    assert scale_map(matrix, 'linear').tolist() == [[0, 9 / 99], [1, 0]]
    # Far below 1 the logarithm changes nothing; adding 1 first would lose it.
    assert scale_map(1e-20 * matrix)[0, 1] == pytest.approx(9 / 99, rel=1e-12)


@pytest.mark.parametrize(
    ('matrix', 'thresholds', 'scale', 'message'),
    [
        (np.ones((4, 4)), [0.0], 'log', 'between 0 and 1, got 0.0'),
        (np.ones((4, 4)), [20], 'log', 'between 0 and 1, got 20'),
        (np.ones((4, 4)), [0.5], 'sqrt', "got 'sqrt'"),
        (np.zeros((4, 4)), [0.5], 'log', 'finite numbers, none below zero and one above'),
        (np.full((4, 4), np.nan), [0.5], 'log', 'finite numbers'),
        (-np.ones((4, 4)), [0.5], 'log', 'none below zero'),
        (np.ones(4), [0.5], 'log', r'shape \(H, W\), got \(4,\)'),
    ],
)
def test_bad_input(matrix, thresholds, scale, message):
    with pytest.raises(ValueError, match=message):
        area_ratios(matrix, thresholds, scale)

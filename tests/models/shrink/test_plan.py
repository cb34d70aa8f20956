import numpy as np
import pytest
import torch

from mmlk.models.shrink.cost import Site, convolution_ms, moving_ms
from mmlk.models.shrink.plan import cheapest_sizes, make_plan

SITE = Site(2, 56, 56)


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def cross(rows: int, columns: int, width: int, edge: int = 51) -> np.ndarray:
    """A plus sign: vertical reach ``rows``, horizontal reach ``columns``."""
    support, middle, half = np.zeros((edge, edge), bool), edge // 2, width // 2
    support[middle - rows : middle + rows + 1, middle - half : middle + half + 1] = True
    support[middle - half : middle + half + 1, middle - columns : middle + columns + 1] = True
    return support


def test_a_cross_becomes_two_strips():
    sizes, cost = cheapest_sizes(cross(25, 25, 5), 124, SITE, 51 * 51)
    assert sizes == ((51, 5), (5, 51))
    assert cost == convolution_ms(SITE, 124, sizes)
    assert cost < convolution_ms(SITE, 124, ((51, 51),))


def test_a_square_stays_one_kernel():
    square = np.zeros((51, 51), bool)
    square[20:31, 20:31] = True
    assert cheapest_sizes(square, 124, SITE, 51 * 51)[0] == ((11, 11),)


def test_an_uneven_support_is_cropped_around_the_centre():
    support = np.zeros((51, 51), bool)
    support[25, 25] = support[25, 30] = support[22, 25] = True
    # Reach 3 along the rows and 5 along the columns.
    (rows, columns) = cheapest_sizes(support, 16, SITE, 102)[0][0]
    sizes = cheapest_sizes(support, 16, SITE, 102)[0]
    if len(sizes) == 1:
        assert (rows, columns) == (7, 11)
    else:
        assert sizes == ((7, 1), (1, 11))


def test_never_more_taps_than_allowed():
    # On a map of 2 x 2 pixels a 3 x 3 window is all that counts, so one kernel would be predicted to be faster.
    tiny = Site(1, 2, 2)
    assert cheapest_sizes(cross(25, 25, 3), 16, tiny, 2 * 51 * 3)[0] == ((51, 3), (3, 51))


def test_zero_channels_are_left_out():
    support = np.stack([cross(25, 25, 5)] * 60 + [np.zeros((51, 51), bool)] * 64)
    plan = make_plan(support, SITE, 51 * 10)
    assert [group.kernel_sizes for group in plan.groups] == [((51, 5), (5, 51)), ()]
    assert plan.groups[1].channels.tolist() == list(range(60, 124))
    whole = convolution_ms(SITE, 124, ((51, 5), (5, 51)))
    assert plan.predicted_ms < 0.75 * whole
    assert plan.predicted_ms > convolution_ms(SITE, 60, ((51, 5), (5, 51)))


def test_groups_by_reach_where_it_pays():
    """Half of the channels reach far: two groups, in whatever order the channels lie."""
    support = np.stack([cross(25, 25, 5), cross(2, 2, 5)] * 64)
    plan = make_plan(support, SITE, 51 * 10)
    assert {group.kernel_sizes for group in plan.groups} == {((51, 5), (5, 51)), ((5, 5),)}
    far = next(group for group in plan.groups if group.kernel_sizes != ((5, 5),))
    assert far.channels.tolist() == list(range(0, 128, 2))
    every = np.sort(np.concatenate([group.channels for group in plan.groups]))
    assert every.tolist() == list(range(128))


def test_no_groups_where_they_do_not_pay():
    support = np.stack([cross(25, 25, 5), cross(24, 25, 5)] * 8)
    assert [group.kernel_sizes for group in make_plan(support, SITE, 51 * 10).groups] == [((51, 5), (5, 51))]


def test_all_zero():
    plan = make_plan(np.zeros((8, 5, 5), bool), SITE, 25)
    assert [(len(group.channels), group.kernel_sizes) for group in plan.groups] == [(8, ())]


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
def test_costs_grow_with_work(device, dtype):
    site = Site(8, 56, 56, dtype, device=device)
    small, large = (convolution_ms(site, 64, size) for size in (((3, 3),), ((51, 51),)))
    assert 0 < small < large
    assert convolution_ms(site, 64, ()) == 0
    assert moving_ms(site, 32) < moving_ms(site, 64)

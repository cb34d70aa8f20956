"""Index tables against the numbers that the authors' code draws, fixed here as values and as hashes."""

import hashlib

import numpy as np
import pytest
import torch

from mmlk.models.mixers.shift_index import ShiftTables, count_placements, make_ghost_split, make_shift_tables

#: channels, M, convolved channels, hash of the convolved channels, of pad_hv and of idx_identit; 4 arrangements, N = 3.
NETWORKS = [
    (80, 51, 60, '452a73223426bb0c', '7b1af47f2d063b04', 'accb8f227c3249df'),
    (160, 49, 122, '08b905d18491669d', 'bb639b7b0a185ebb', '73332a77f65c147a'),
    (320, 47, 246, '33b99dc4490c5f7c', 'a3a088303253f7fc', '5c415c541afd679e'),
    (640, 13, 492, 'bfaa1afb88fdccc4', '0e5df4a19684b69f', '44b3049d89a10084'),
    (96, 51, 72, '74fa61758538caf5', '58eca38b80083ff9', 'f4123b85df118229'),
    (192, 49, 146, '0d82c281cd31d8cd', 'f50d42c1fb5b0a89', '6c4fce12f9ddd65a'),
    (384, 47, 294, '7cc3a779fe2e5fe0', '428a30c8c7cf541b', '897c3e4311d2b972'),
    (768, 13, 590, 'd6ca44c0e52f513b', '4e242fdc98804bff', '338d4b5e0e65e2be'),
]


def fingerprint(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, dtype='<i4').tobytes()).hexdigest()[:16]


def authors_layout(tables: ShiftTables, length: int, small_kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """``pad_hv`` (C nk, 2 A), the shift of every kernel, and ``idx_identit`` (C, A), as the authors hold them."""
    arrangements, channels, count = tables.horizontal.shape
    pad_hv = np.zeros((channels * count, 2 * arrangements), dtype=np.int32)
    for a in range(arrangements):
        for c in range(channels):
            for j in range(count):
                shift = length // 2 - j * small_kernel - (small_kernel - 1)
                pad_hv[c * count + tables.horizontal[a, c, j], a] = shift
                pad_hv[c * count + tables.vertical[a, c, j], arrangements + a] = shift
    return pad_hv, (tables.center + np.arange(channels) * count).T


def test_small_fixture():
    tables = make_shift_tables(3, channels=2, num_arrangements=2)
    assert tables.horizontal.tolist() == [[[1, 2, 0], [0, 1, 2]], [[1, 0, 2], [0, 2, 1]]]
    assert tables.vertical.tolist() == [[[2, 1, 0], [2, 0, 1]], [[0, 2, 1], [1, 2, 0]]]
    assert tables.center.tolist() == [[0, 0], [1, 1]]
    pad_hv, idx_identit = authors_layout(tables, 7, 3)
    assert pad_hv.tolist() == [
        [-5, -2, -5, 1],
        [1, 1, -2, -5],
        [-2, -5, 1, -2],
        [1, 1, -2, -5],
        [-2, -5, -5, 1],
        [-5, -2, 1, -2],
    ]
    assert idx_identit.tolist() == [[0, 1], [3, 4]]


def test_tables_of_the_tiny_network():
    first = make_shift_tables(17, 60, 4)
    assert first.horizontal[0, 0].tolist() == [15, 14, 1, 0, 4, 7, 16, 2, 13, 11, 3, 12, 8, 5, 10, 6, 9]
    assert first.vertical[0, 0].tolist() == [2, 14, 6, 1, 8, 15, 5, 9, 11, 10, 16, 7, 12, 13, 0, 4, 3]
    assert first.center[0, :8].tolist() == [0, 13, 3, 0, 11, 11, 15, 15]
    last = make_shift_tables(5, 492, 4)
    assert last.horizontal[0, :2].tolist() == [[2, 0, 1, 3, 4], [0, 3, 2, 4, 1]]
    assert last.horizontal[3, 491].tolist() == [0, 4, 1, 3, 2]
    assert last.vertical[0, 0].tolist() == [2, 3, 1, 4, 0]
    assert last.center[0, :8].tolist() == [0, 3, 1, 3, 0, 0, 3, 3]
    assert last.center[3, -4:].tolist() == [2, 4, 2, 0]


@pytest.mark.parametrize(('channels', 'length', 'convolved', 'split_hash', 'pad_hash', 'center_hash'), NETWORKS)
def test_hashes(channels, length, convolved, split_hash, pad_hash, center_hash):
    split = make_ghost_split(channels, 0.23)
    assert len(split.convolved) == convolved
    assert fingerprint(split.convolved) == split_hash
    assert sorted([*split.convolved, *split.ghost]) == list(range(channels))
    pad_hv, idx_identit = authors_layout(make_shift_tables(-(-length // 3), convolved, 4), length, 3)
    assert (fingerprint(pad_hv), fingerprint(idx_identit)) == (pad_hash, center_hash)


@pytest.mark.parametrize(
    ('channels', 'ghosts'),
    [
        (80, [4, 8, 9, 23, 29, 31, 37, 43, 44, 53, 58, 59, 62, 64, 69, 72, 75, 77, 78, 79]),
        (160, [4, 7, 8, 13, 20, 23]),
        (320, [11, 12, 19, 20, 22, 26]),
        (640, [5, 9, 11, 13, 31, 33]),
        (96, [0, 4, 5, 8, 19, 23]),
        (192, [4, 10, 19, 23, 26, 31]),
        (384, [6, 9, 11, 13, 15, 20]),
        (768, [4, 5, 9, 11, 13, 35]),
    ],
)
def test_first_ghosts(channels, ghosts):
    assert make_ghost_split(channels, 0.23, 'v2').ghost[: len(ghosts)].tolist() == ghosts


@pytest.mark.parametrize(
    ('version', 'counts'),
    [
        ('v1', {96: (22, 74), 192: (44, 148), 384: (88, 296), 768: (176, 592)}),
        ('v2', {80: (20, 60), 160: (38, 122), 320: (74, 246), 640: (148, 492), 96: (24, 72), 768: (178, 590)}),
    ],
)
def test_rounding_of_the_versions(version, counts):
    for channels, expected in counts.items():
        split = make_ghost_split(channels, 0.23, version)
        assert (len(split.ghost), len(split.convolved)) == expected


@pytest.mark.parametrize('count', [1, 2, 5, 16])
def test_equals_torch_with_a_private_generator(count):
    """The definition: randperm and randint of PyTorch's CPU generator after manual_seed(123)."""
    tables = make_shift_tables(count, 7, 3)
    generator = torch.Generator('cpu').manual_seed(123)
    for table in (tables.horizontal, tables.vertical):
        for a in range(3):
            for c in range(7):
                assert table[a, c].tolist() == torch.randperm(count, generator=generator).tolist()
    for a in range(3):
        assert tables.center[a].tolist() == torch.randint(0, count, (7,), generator=generator).tolist()


def test_global_generators_stay_untouched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    make_ghost_split(80, 0.23)
    make_shift_tables(17, 60, 4)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_counts_of_placements():
    tables = make_shift_tables(3, 2, 2)
    counts = count_placements(tables)
    # Channel 0: horizontal (1, 2, 0) and (1, 0, 2), vertical (2, 1, 0) and (0, 2, 1), centre 0 and 1.
    assert counts[0].tolist() == [[0, 2, 0], [1, 0, 1], [1, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert (counts.sum(-1) == 2).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((8, 0.5, 'v3'), r"version must be one of \('v1', 'v2'\), got 'v3'"),
        ((8, 1.0, 'v1'), 'ghost_ratio must leave some of 8 channels to convolve, got 1.0'),
        ((8, -0.1, 'v2'), 'ghost_ratio must leave some of 8 channels to convolve, got -0.1'),
        ((2, 0.9, 'v2'), 'ghost_ratio must leave some of 2 channels to convolve, got 0.9'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_ghost_split(*arguments)


def test_ghost_ratio_of_zero():
    assert make_ghost_split(8, 0.0, 'v1').convolved.tolist() == list(range(8))
    # v2 makes the number of convolved channels even.
    assert [len(part) for part in make_ghost_split(9, 0.0, 'v2')] == [8, 1]

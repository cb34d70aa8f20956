import pytest

from mmlk.benchmarks.shapes import GRIDS, HEADLINE, LAYERS, OP_TABLE, PERIPHERAL, SHAPES, STRIPES, select_shapes
from mmlk.errors import UsageError
from mmlk.models.mixers.sharing_grid import make_sharing_grid


def test_table():
    assert len(LAYERS) == 14
    assert [shape.size for shape in LAYERS if shape.name == 'PeLK-101-T s1 @512'] == [(8, 48, 128, 128, 101, 101)]
    assert {shape.size for shape in OP_TABLE} == {
        (64, 384, edge, edge, k, k) for edge in (16, 32, 64) for k in (3, 5, 7, 9, 13, 17, 21, 27, 29, 31)
    }
    assert {shape.size for shape in STRIPES} == {
        (64, 384, edge, edge, *kernel) for edge in (16, 32, 64) for kernel in ((51, 5), (5, 51))
    }
    assert [shape.size for shape in HEADLINE] == [
        (2, 128, 56, 56, 31, 31),
        (2, 128, 32, 32, 51, 51),
        (2, 64, 128, 128, 51, 51),
        (2, 30, 128, 128, 101, 101),
    ]
    assert all(shape.r % 2 and shape.s % 2 for shape in SHAPES)


def test_batch():
    assert {shape.n for shape in select_shapes('cpu')} == {2}
    assert {shape.n for shape in select_shapes('cuda')} == {2, 8, 64}
    assert {shape.n for shape in select_shapes('cpu', batch=16)} == {16}
    assert {shape.n for shape in select_shapes('cuda', batch=3)} == {3}


def test_every_shape_once():
    on_cpu = select_shapes('cpu')
    assert len({shape.size for shape in on_cpu}) == len(on_cpu) == len(SHAPES) - 1
    # With two images RepLKNet's first stage is one of the headline shapes.
    (shape,) = [shape for shape in on_cpu if shape.size == (2, 128, 56, 56, 31, 31)]
    assert shape.name == 'RepLK-31B s1 @224 = headline'
    assert len(select_shapes('cuda')) == len(SHAPES)


def test_quick_has_every_kind():
    names = ' '.join(shape.name for shape in select_shapes('cpu', quick=True))
    assert all(name in names for name in ('RepLK', 'op table', 'stripe', 'headline'))
    assert len(select_shapes('cpu', quick=True)) <= 12


def test_filters():
    assert {shape.name for shape in select_shapes('cuda', filters='pelk-101')} == {
        'PeLK-101-T s1 @512',
        'PeLK-101-T s2 @512',
    }
    assert {shape.label for shape in select_shapes('cuda', filters='H7xW7,K101x101', quick=True)} == {
        'N64-C1024-H7xW7-K13x13',
        'N8-C48-H128xW128-K101x101',
        'N2-C30-H128xW128-K101x101',
    }
    (own,) = select_shapes('cuda', filters='3x4x5x6x7')
    assert own.size == (3, 4, 5, 6, 7, 7)
    assert [shape.size for shape in select_shapes('cuda', filters='3x4x5x6x51x5, 1x1x9x9x3')] == [
        (3, 4, 5, 6, 51, 5),
        (1, 1, 9, 9, 3, 3),
    ]


@pytest.mark.parametrize(
    ('filters', 'message'),
    [
        ('ResNet', "--shapes 'ResNet' is part of no shape"),
        ('PeLK,ResNet', "--shapes 'ResNet' is part of no shape"),
        (' , ', '--shapes is empty'),
        ('2x8x16x16x2+1+2', '--shapes 2x8x16x16x2[+]1[+]2 must have positive edges and an odd kernel'),
        ('2x8x16x16x4', '--shapes 2x8x16x16x4 must have positive edges and an odd kernel'),
        ('0x8x16x16x3', '--shapes 0x8x16x16x3 must have positive edges and an odd kernel'),
    ],
)
def test_bad_filters(filters, message):
    with pytest.raises(UsageError, match=message):
        select_shapes('cpu', filters=filters)


class TestPeripheral:
    def test_grids_are_those_of_the_networks(self):
        assert {k: make_sharing_grid(k, center_radius=3 if k > 51 else 2) for k in (47, 49, 51, 69, 101)} == GRIDS

    def test_table(self):
        assert [(shape.name, shape.size) for shape in PERIPHERAL] == [
            (shape.name, shape.size) for shape in LAYERS if shape.name.startswith('PeLK')
        ]
        assert len(PERIPHERAL) == 6
        assert all(sum(shape.grid) == shape.r == shape.s and shape.op == 'peripheral' for shape in PERIPHERAL)
        assert {shape.op for shape in SHAPES} == {'depthwise'}

    def test_selection(self):
        assert {shape.n for shape in select_shapes('cpu', op='peripheral')} == {2}
        assert {shape.r for shape in select_shapes('cpu', quick=True, op='peripheral')} == {47, 51}
        (shape,) = select_shapes('cuda', filters='K101x101', op='peripheral')
        assert (shape.size, shape.grid) == ((8, 48, 128, 128, 101, 101), GRIDS[101])

    def test_own_sizes(self):
        known, own, other = select_shapes('cpu', filters='2x3x9x8x51,2x3x9x8x2+1+2,2x3x9x8x1+3+1', op='peripheral')
        assert (known.size, known.grid) == ((2, 3, 9, 8, 51, 51), GRIDS[51])
        assert (own.size, own.grid) == ((2, 3, 9, 8, 5, 5), (2, 1, 2))
        # Two grids of one kernel are two shapes.
        assert (other.size, other.grid) == ((2, 3, 9, 8, 5, 5), (1, 3, 1))

    @pytest.mark.parametrize('size', ['2x3x9x8x5', '2x3x9x8x51x5', '2x3x9x8x2+2', '2x3x9x8x2+0+1', '0x3x9x8x51'])
    def test_bad_sizes(self, size):
        with pytest.raises(UsageError, match='must have positive edges and a sharing grid, as NxCxHxWxK with K one of'):
            select_shapes('cpu', filters=size, op='peripheral')

    def test_other_shapes_are_not_there(self):
        with pytest.raises(UsageError, match="--shapes 'RepLK' is part of no shape"):
            select_shapes('cpu', filters='RepLK', op='peripheral')

"""The tables of published figures, against literals that were typed a second time, and against the configs."""

import re

import pytest
import yaml
from mmengine.config import Config

from mmlk.analysis.complexity import Complexity
from mmlk.analysis.config_complexity import config_complexity
from mmlk.analysis.tables import DATASETS, METRICS, ROWS, UNPUBLISHED, Counting, Row, compare, op, rows_of
from mmlk.analysis.tables.row import BOUNDS, ROUNDED, Comparison

#: config, metrics in percent, parameters (M), FLOPs (G), edges of the image; '-' where nothing is printed. So that ours
#: can never be copied into the tables: these are what the papers and repositories print.
LITERALS = """
imagenet/pelk_t                               82.6       29    5.6   224
imagenet/pelk_s                               83.9       50    10.7  224
imagenet/pelk_b                               84.2       89    18.3  224
imagenet/pelk_b_384                           85.6       89    54.0  384
imagenet/pelk_b_101_384                       85.8       90    68.3  384
imagenet/pelk_t_120e                          81.6       -     -     224
imagenet/pelk_t_101_120e                      81.6       -     -     224
imagenet/replknet_31b                         83.5       79    15.3  224
imagenet/replknet_31b_384                     84.8       79    45.1  384
imagenet/replknet_31b_in21k                   85.2       79    15.3  224
imagenet/replknet_31b_in21k_384               86.0       79    45.1  384
imagenet/replknet_31l_in21k_384               86.6       172   96.0  384
imagenet/replknet_xl_320                      87.8       335   128.7 320
imagenet/replknet_31b_k3_120e                 82.11      71.8  12.9  224
imagenet/replknet_31b_k7_120e                 82.73      72.2  13.1  224
imagenet/replknet_31b_k13_120e                83.02      73.7  13.4  224
imagenet/replknet_31b_k25_120e                83.00      78.2  14.8  224
imagenet/replknet_31b_120e                    83.07      79.3  15.3  224
imagenet/slak_t                               82.5       30    5.0   224
imagenet/slak_s                               83.8       55    9.8   224
imagenet/slak_b                               84.0       95    17.1  224
imagenet/slak_b_384                           85.5       95    50.3  384
imagenet/slak_t_31_120e                       81.5       30    4.8   224
imagenet/slak_t_120e                          81.6       30    5.0   224
imagenet/slak_t_61_120e                       81.5       31    5.2   224
imagenet/shiftwise_t                          83.4       31    5.0   224
imagenet/shiftwise_s                          83.9       56    9.4   224
imagenet/unireplknet_a                        77.0       4.4   0.6   224
imagenet/unireplknet_f                        78.6       6.2   0.9   224
imagenet/unireplknet_p                        80.2       10.7  1.6   224
imagenet/unireplknet_n                        81.6       18.3  2.8   224
imagenet/unireplknet_t                        83.2       31    4.9   224
imagenet/unireplknet_s                        83.9       56    9.1   224
imagenet/unireplknet_s_in21k_384              86.4       56    26.7  384
imagenet/unireplknet_b_in21k_384              87.4       98    47.2  384
imagenet/unireplknet_l_in21k_384              87.9       218   105.4 384
imagenet/unireplknet_xl_in21k_384             88.0       386   187   384
ade20k/upernet_pelk_t                         48.1       62    970   512x2048
ade20k/upernet_pelk_s                         49.7       84    1077  512x2048
ade20k/upernet_pelk_b                         50.4       126   1237  512x2048
ade20k/upernet_pelk_b_101                     50.6       126   1339  512x2048
ade20k/upernet_replknet_31b                   49.9/50.6  112   1170  512x2048
ade20k/upernet_replknet_31b                   49.9       112   1170  512x2048
ade20k/upernet_replknet_31b_in21k_640         51.5/52.3  112   1829  640x2560
ade20k/upernet_replknet_31l_in21k_640         52.4/52.7  207   2404  640x2560
ade20k/upernet_replknet_xl_640                55.2/56.0  374   3431  640x2560
ade20k/upernet_replknet_31b_k3_80k            46.05      104.1 1119  512x2048
ade20k/upernet_replknet_31b_k7_80k            48.05      104.6 1123  512x2048
ade20k/upernet_replknet_31b_k13_80k           48.35      106.0 1130  512x2048
ade20k/upernet_replknet_31b_k25_80k           48.68      110.6 1159  512x2048
ade20k/upernet_replknet_31b_80k               49.17      112   1170  512x2048
ade20k/upernet_slak_t                         47.6       65    936   512x2048
ade20k/upernet_slak_s                         49.4       91    1028  512x2048
ade20k/upernet_slak_b                         50.0       135   1172  512x2048
ade20k/upernet_slak_t                         47.6       64    957   512x2048
ade20k/upernet_slak_s                         49.4       89    1057  512x2048
ade20k/upernet_slak_b                         50.2       131   1210  512x2048
ade20k/upernet_slak_t_80k                     46.5       -     -     512x2048
ade20k/upernet_shiftwise_t                    49.22/50.06 61.73 948.12  512x2048
ade20k/upernet_shiftwise_s                    49.79/50.83 87.5  1039.21 512x2048
ade20k/upernet_unireplknet_t                  48.6/49.1  61    946   512x2048
ade20k/upernet_unireplknet_s                  50.5/51.0  86    1036  512x2048
ade20k/upernet_unireplknet_s_in21k            51.9/52.7  -     1036  512x2048
ade20k/upernet_unireplknet_s_in21k_640        52.3/52.7  -     1618  640x2560
ade20k/upernet_unireplknet_b_in21k_640        53.5/53.9  130   1850  640x2560
ade20k/upernet_unireplknet_l_in21k_640        54.5/55.0  254   2507  640x2560
ade20k/upernet_unireplknet_xl_in21k_640       55.2/55.6  425   3420  640x2560
cityscapes/upernet_replknet_31b_769           83.1/83.5  110   2315  1024x2048
coco/cascade_mask_rcnn_pelk_t                 51.4/44.6  86    770   800x1280
coco/cascade_mask_rcnn_pelk_s                 52.2/45.3  108   874   800x1280
coco/cascade_mask_rcnn_pelk_b                 52.9/45.9  147   1028  800x1280
coco/cascade_mask_rcnn_pelk_b_101             53.1/46.1  147   1127  800x1280
coco/fcos_replknet_31b                        47.0       87    437   800x1280
coco/cascade_mask_rcnn_replknet_31b           52.2/45.2  137   965   800x1280
coco/cascade_mask_rcnn_replknet_31b           52.2/45.2  137   965   800x1280
coco/cascade_mask_rcnn_replknet_31b_in21k     53.0/46.0  137   965   800x1280
coco/cascade_mask_rcnn_replknet_31l_in21k     53.9/46.5  229   1321  800x1280
coco/cascade_mask_rcnn_replknet_xl            55.5/48.0  392   1958  800x1280
coco/cascade_mask_rcnn_slak_t_1x              48.4/41.8  -     -     800x1280
coco/cascade_mask_rcnn_slak_t                 51.3/44.3  -     -     800x1280
coco/cascade_mask_rcnn_slak_b                 52.5/45.5  152   1001  800x1280
coco/cascade_mask_rcnn_shiftwise_t            52.21/45.19 86.89 751.21 800x1280
coco/cascade_mask_rcnn_unireplknet_t          51.7/44.9  89    749   800x1280
coco/cascade_mask_rcnn_unireplknet_s          53.0/45.9  113   835   800x1280
coco/cascade_mask_rcnn_unireplknet_s_in21k    54.3/47.1  -     -     800x1280
coco/cascade_mask_rcnn_unireplknet_b_in21k    54.8/47.4  155   978   800x1280
coco/cascade_mask_rcnn_unireplknet_l_in21k    55.8/48.4  276   1385  800x1280
coco/cascade_mask_rcnn_unireplknet_xl_in21k   56.4/49.0  443   1952  800x1280
"""

#: RepLKNet, Table 1: milliseconds for K = 3 5 7 9 13 17 21 27 29 31.
OP_LITERALS = """
16 PyTorch     5.6  11.0  14.4  17.6  36.0  57.2   83.4  133.5  150.7  171.4
16 MegEngine   5.6   6.5   6.4   6.9   7.5   8.4    8.4    8.4    8.3    8.4
32 PyTorch    21.9  34.1  54.8  76.1 141.2 230.5  342.3  557.8  638.6  734.8
32 MegEngine  21.9  28.7  34.6  40.6  52.5  64.5   73.9   87.9   92.7   96.7
64 PyTorch    69.6 141.2 228.6 319.8 600.0 977.7 1454.4 2371.1 2698.4 3090.4
64 MegEngine  69.6 112.6 130.7 152.6 199.7 251.5  301.0  378.2  406.0  431.7
"""

COMMON = dict(network='Net', source='a paper', metrics={}, input_size=(64, 64), counting=Counting())


def as_literal(row: Row) -> tuple:
    height, width = row.input_size
    edges = f'{height}' if height == width else f'{height}x{width}'
    return row.config, '/'.join(row.metrics.values()), row.params or '-', row.flops or '-', edges


def test_figures_are_those_printed():
    literals = [tuple(line.split()) for line in LITERALS.strip().splitlines()]
    assert sorted(map(as_literal, ROWS)) == sorted(literals)
    for row in ROWS:
        assert tuple(row.metrics) == METRICS[row.dataset][: len(row.metrics)]
        assert re.match(r'arXiv 2\d{3}\.\d{5}, |README of \w+|ShiftwiseConv, CVPR 2025', row.source)


def test_latencies_are_those_printed():
    for line in OP_LITERALS.strip().splitlines():
        edge, implementation, *values = line.split()
        assert op.MILLISECONDS[int(edge), implementation] == tuple(values)
    assert len(op.MILLISECONDS) == 6
    assert op.KERNELS == (3, 5, 7, 9, 13, 17, 21, 27, 29, 31)


def test_every_config_is_in_a_table_or_without_a_figure(repository):
    """And every row refers to a config that exists; a name stands for one config, whatever its folder."""
    configs = {
        f'{path.parent.name}/{path.stem}'
        for path in (repository / 'configs').glob('*/*.py')
        if path.parent.name != '_base_'
    }
    published = {row.config for row in ROWS}
    assert published | UNPUBLISHED.keys() == configs
    assert not published & UNPUBLISHED.keys()
    assert len({config.partition('/')[2] for config in configs}) == len(configs)


def test_readme_counts_the_rows(repository):
    counts = re.findall(r'^\| [\w-]+ \| `configs/(\w+)/.*\| (\d+) \|$', (repository / 'README.md').read_text(), re.M)
    assert {folder: int(count) for folder, count in counts} == {name: len(rows_of(name)) for name in DATASETS}


@pytest.mark.parametrize('dataset', DATASETS)
def test_metafiles_hold_the_same_figures(dataset, repository):
    """Paper metrics and sizes in a metafile are those of one row of its config; every config with a row is listed."""
    names = {'Top 1 Accuracy': 'top-1'}
    models = yaml.safe_load((repository / f'configs/{dataset}/metafile.yml').read_text())['Models']
    listed = {model['Config'] for model in models}
    assert {row.path for row in rows_of(dataset)} <= listed
    for model in models:
        rows = [row for row in rows_of(dataset) if row.path == model['Config']]
        assert model['Alias'] == model['Config'].rpartition('/')[2].removesuffix('.py')
        papers = [result for result in model.get('Results') or [] if result['Source'].startswith('paper')]
        found = {names.get(k, k): float(v) for result in papers for k, v in result['Metrics'].items()}
        if not rows:
            assert not found, f'{model["Alias"]} has metrics without a published row'
            continue
        expected = [{name: float(value) for name, value in row.metrics.items()} for row in rows]
        assert found in expected, f'{model["Alias"]}: {found} is none of {expected}'
        same = [row for row, metrics in zip(rows, expected) if metrics == found]
        sizes = [model['Metadata'].get(name) for name in ('Parameters (M)', 'FLOPs (G)')]
        assert any(all(map(agree, sizes, row.printed.values())) for row in same), f'{model["Alias"]}: {sizes}'


def agree(size: float | None, printed: str | None) -> bool:
    """A metafile may leave a size out or round it, but not say another."""
    if size is None or printed is None:
        return True
    return f'{float(printed):.{len(str(size).partition(".")[2])}f}' == str(size)


class TestComparison:
    def row(self, params='10', flops='2.0', **causes) -> Row:
        return Row(config='coco/net', params=params, flops=flops, causes=causes, **COMMON)

    def test_relative_difference_in_the_units_of_the_table(self):
        found = compare(self.row(), Complexity(10.2e6, 1.9e9))
        assert found['params'].ours == pytest.approx(10.2)
        assert found['params'].relative == pytest.approx(0.02)
        assert found['flops'].relative == pytest.approx(-0.05)

    def test_only_what_is_published_is_compared(self):
        assert list(compare(self.row(params=None), Complexity(1, 1))) == ['flops']
        assert self.row(params=None).path == 'configs/coco/net.py'

    @pytest.mark.parametrize(
        ('printed', 'ours', 'cause', 'explained', 'why'),
        [
            ('100', 101.9, None, True, None),
            ('100', 102.1, None, False, None),
            ('100', 97.9, 'another rule', True, 'another rule'),
            ('100', 100.2, 'cut off', True, 'cut off'),
            # 6.7 % more, but printed with one digit.
            ('0.6', 0.64, None, True, ROUNDED),
            ('0.6', 0.66, None, False, None),
        ],
    )
    def test_what_needs_a_cause(self, printed, ours, cause, explained, why):
        found = Comparison(printed, ours, BOUNDS['params'], cause)
        assert (found.explained, found.why) == (explained, why)

    def test_bounds(self):
        assert dict(params=0.02, flops=0.015) == BOUNDS
        for row in ROWS:
            wide = row.source == 'arXiv 2403.07589, Table 4' and 'pelk' in row.config
            assert row.bounds == (dict(params=0.05, flops=0.05) if wide else BOUNDS), row


@pytest.fixture
def small(repository) -> Config:
    """UperNet on UniRepLKNet-T with one block per stage."""
    cfg = Config.fromfile(repository / 'configs/ade20k/upernet_unireplknet_t.py')
    cfg.model.backbone.update(depths=(1, 1, 1, 1), kernel_size=(3, 13, 13, 13))
    return cfg


class TestCounting:
    """What a rule leaves out, on a small segmentor."""

    def count(self, cfg, **rule) -> Complexity:
        return config_complexity(cfg, (64, 64), Counting(**rule))

    def test_auxiliary_head(self, small):
        """3 x 3 convolution of 320 channels to 256 with its norm, and 150 classes; it never counts in FLOPs."""
        with_head, without = self.count(small), self.count(small, auxiliary_head=False)
        assert with_head.params - without.params == 320 * 256 * 9 + 2 * 256 + 256 * 150 + 150
        assert with_head.macs == without.macs

    def test_merged_params(self, small):
        """Fusion leaves the square of 13 with a bias; of each branch the kernel and norm go, and of each block's FFN
        the norm, the layer scale and the offset of the GRN, for one bias."""
        train, merged = self.count(small), self.count(small, merged_params=True)
        gone = 0
        for channels, kernels in ((80, ()), *((c, (5, 7, 3, 3, 3)) for c in (160, 320, 640))):
            branches = sum(k * k + 2 for k in kernels) + (2 if kernels else 0)
            # Norm behind the mixer (2 C), second norm (2 C), layer scale (C), offset (4 C); a bias (C) comes twice.
            gone += channels * (branches + 2 + 2 + 1 + 4 - 2)
        assert train.params - merged.params == gone
        assert train.macs == merged.macs

    def test_density_is_of_the_backbone_alone(self, small):
        full, half, none = (self.count(small, density=density) for density in (1.0, 0.5, 0.0))
        assert half.params == pytest.approx((full.params + none.params) / 2)
        assert half.macs == pytest.approx((full.macs + none.macs) / 2)
        assert none.params > 20e6, 'the heads stay whole'


#: One row per host, rule and kind of head, the small networks; tools/table.py counts all of them.
SAMPLE = [
    'ade20k/upernet_pelk_t',
    'ade20k/upernet_shiftwise_t',
    'cityscapes/upernet_replknet_31b_769',
    'coco/fcos_replknet_31b',
    'coco/cascade_mask_rcnn_shiftwise_t',
    'coco/cascade_mask_rcnn_unireplknet_t',
]


@pytest.mark.parametrize('config', SAMPLE)
def test_configs_have_the_published_size(config, repository):
    (row,) = [row for row in ROWS if row.config == config]
    ours = config_complexity(Config.fromfile(repository / row.path), row.input_size, row.counting)
    for name, comparison in compare(row, ours).items():
        assert abs(comparison.relative) <= row.bounds[name], (name, comparison)

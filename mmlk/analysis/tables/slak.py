"""Tables of SLaK: its repository's, and what PeLK (arXiv 2403.07589) quotes."""

from mmlk.analysis.tables.row import ADE20K, COCO, DENSITY, Counting, make_rows

# 40 % sparsity, of the classifier's head too.
COUNTING = Counting(density=0.6)

README = 'README of VITA-Group/SLaK'
PELK = 'arXiv 2403.07589, Table {}'

SQUARE = 'the 5 x 5 branch counts beside the strips; here it is merged into one'
OTHER_RULE = "a rule that is not stated; PeLK's Table 2 counts the same networks as we do"

ROWS = [
    *make_rows(
        'imagenet/slak_',
        README,
        'top-1',
        COUNTING,
        [
            ('SLaK-T', 't', 224, '82.5', '30', '5.0', dict(flops=DENSITY)),
            ('SLaK-S', 's', 224, '83.8', '55', '9.8', dict(flops=DENSITY)),
            ('SLaK-B', 'b', 224, '84.0', '95', '17.1', dict(flops=SQUARE)),
            ('SLaK-T, kernels 31, 120 epochs', 't_31_120e', 224, '81.5', '30', '4.8', dict(flops=DENSITY)),
            ('SLaK-T, 120 epochs', 't_120e', 224, '81.6', '30', '5.0', dict(flops=DENSITY)),
            ('SLaK-T, kernels 61, 120 epochs', 't_61_120e', 224, '81.5', '31', '5.2', dict(flops=DENSITY)),
        ],
    ),
    *make_rows(
        'imagenet/slak_',
        PELK.format(4),
        'top-1',
        COUNTING,
        [('SLaK-B', 'b_384', 384, '85.5', '95', '50.3', dict(flops=SQUARE))],
    ),
    *make_rows(
        'ade20k/upernet_slak_',
        README,
        'mIoU',
        COUNTING,
        [
            ('SLaK-T', 't', ADE20K, '47.6', '65', '936', dict(params=OTHER_RULE, flops=OTHER_RULE)),
            ('SLaK-S', 's', ADE20K, '49.4', '91', '1028', dict(params=OTHER_RULE, flops=OTHER_RULE)),
            ('SLaK-B', 'b', ADE20K, '50.0', '135', '1172', dict(params=OTHER_RULE, flops=OTHER_RULE)),
        ],
    ),
    *make_rows(
        'ade20k/upernet_slak_',
        PELK.format(2),
        'mIoU',
        COUNTING,
        [
            ('SLaK-T', 't', ADE20K, '47.6', '64', '957'),
            ('SLaK-S', 's', ADE20K, '49.4', '89', '1057'),
            ('SLaK-B', 'b', ADE20K, '50.2', '131', '1210'),
        ],
    ),
    *make_rows(
        'ade20k/upernet_slak_', PELK.format(1), 'mIoU', COUNTING, [('SLaK-T, 80k', 't_80k', ADE20K, '46.5', None, None)]
    ),
    *make_rows(
        'coco/cascade_mask_rcnn_slak_',
        README,
        'box AP/mask AP',
        COUNTING,
        [
            ('SLaK-T, 1x', 't_1x', COCO, '48.4/41.8', None, None),
            ('SLaK-T', 't', COCO, '51.3/44.3', None, None),
        ],
    ),
    *make_rows(
        'coco/cascade_mask_rcnn_slak_',
        PELK.format(3),
        'box AP/mask AP',
        COUNTING,
        [('SLaK-B', 'b', COCO, '52.5/45.5', '152', '1001')],
    ),
]

"""Tables of SW (ShiftwiseConv, CVPR 2025) and of its repository."""

from mmlk.analysis.tables.row import ADE20K, COCO, Counting, make_rows

COUNTING = Counting(shiftwise=True)

PAPER = 'ShiftwiseConv, CVPR 2025'
DOWNSTREAM = 'ShiftwiseConv, CVPR 2025; sizes from the README of lidc54/shift-wiseConv'

RULE = '9.334 G by the rule that gives T; the paper gives no other'

ROWS = [
    *make_rows(
        'imagenet/',
        PAPER,
        'top-1',
        COUNTING,
        [
            ('SW-T', 'shiftwise_t', 224, '83.4', '31', '5.0'),
            ('SW-S', 'shiftwise_s', 224, '83.9', '56', '9.4', dict(flops=RULE)),
        ],
    ),
    *make_rows(
        'ade20k/upernet_',
        DOWNSTREAM,
        'mIoU/mIoU (ms)',
        COUNTING,
        [
            ('SW-T', 'shiftwise_t', ADE20K, '49.22/50.06', '61.73', '948.12'),
            ('SW-S', 'shiftwise_s', ADE20K, '49.79/50.83', '87.5', '1039.21'),
        ],
    ),
    *make_rows(
        'coco/cascade_mask_rcnn_',
        DOWNSTREAM,
        'box AP/mask AP',
        COUNTING,
        [('SW-T', 'shiftwise_t', COCO, '52.21/45.19', '86.89', '751.21')],
    ),
]

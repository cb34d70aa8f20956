"""Tables of PeLK (arXiv 2403.07589)."""

from mmlk.analysis.tables.row import ADE20K, COCO, CUT, DENSITY, Counting, make_rows

# 40 % sparsity; the positional embedding is not counted.
COUNTING = Counting(density=0.6)

ROWS = [
    *make_rows(
        'imagenet/',
        'arXiv 2403.07589, Table 4',
        'top-1',
        COUNTING,
        [
            ('PeLK-T', 'pelk_t', 224, '82.6', '29', '5.6', dict(flops=DENSITY)),
            ('PeLK-S', 'pelk_s', 224, '83.9', '50', '10.7', dict(params=CUT, flops=DENSITY)),
            ('PeLK-B', 'pelk_b', 224, '84.2', '89', '18.3', dict(flops=CUT)),
            ('PeLK-B', 'pelk_b_384', 384, '85.6', '89', '54.0'),
            ('PeLK-B-101', 'pelk_b_101_384', 384, '85.8', '90', '68.3', dict(flops=CUT)),
        ],
        # Wider: what training leaves of T is not known.
        bounds=dict(params=0.05, flops=0.05),
    ),
    *make_rows(
        'imagenet/',
        'arXiv 2403.07589, Table 7',
        'top-1',
        COUNTING,
        [
            ('PeLK-T, 120 epochs', 'pelk_t_120e', 224, '81.6', None, None),
            ('PeLK-T-101, 120 epochs', 'pelk_t_101_120e', 224, '81.6', None, None),
        ],
    ),
    *make_rows(
        'ade20k/upernet_',
        'arXiv 2403.07589, Table 2',
        'mIoU',
        COUNTING,
        [
            ('PeLK-T', 'pelk_t', ADE20K, '48.1', '62', '970'),
            ('PeLK-S', 'pelk_s', ADE20K, '49.7', '84', '1077'),
            ('PeLK-B', 'pelk_b', ADE20K, '50.4', '126', '1237'),
            ('PeLK-B-101', 'pelk_b_101', ADE20K, '50.6', '126', '1339'),
        ],
    ),
    *make_rows(
        'coco/cascade_mask_rcnn_',
        'arXiv 2403.07589, Table 3',
        'box AP/mask AP',
        COUNTING,
        [
            ('PeLK-T', 'pelk_t', COCO, '51.4/44.6', '86', '770'),
            ('PeLK-S', 'pelk_s', COCO, '52.2/45.3', '108', '874'),
            ('PeLK-B', 'pelk_b', COCO, '52.9/45.9', '147', '1028'),
            ('PeLK-B-101', 'pelk_b_101', COCO, '53.1/46.1', '147', '1127'),
        ],
    ),
]

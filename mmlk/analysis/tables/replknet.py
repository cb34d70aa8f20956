"""Tables of RepLKNet (arXiv 2203.06717), of its repository, and what PeLK (arXiv 2403.07589) quotes."""

from mmlk.analysis.tables.row import ADE20K, ADE20K_LARGE, COCO, CUT, Counting, make_rows

# Found by what fits all rows: the auxiliary head of a segmentor is left out.
COUNTING = Counting(merged_params=True, auxiliary_head=False)

README = 'README of DingXiaoH/RepLKNet-pytorch'
KERNELS = 'arXiv 2203.06717, table of kernel sizes'

SERIES = 'the paper does not say how it counts; its whole series is 0.1 to 0.3 % below the merged network'

ROWS = [
    *make_rows(
        'imagenet/replknet_',
        README,
        'top-1',
        COUNTING,
        [
            ('RepLKNet-31B', '31b', 224, '83.5', '79', '15.3', dict(params=CUT, flops=CUT)),
            ('RepLKNet-31B', '31b_384', 384, '84.8', '79', '45.1', dict(params=CUT)),
            ('RepLKNet-31B, 21k', '31b_in21k', 224, '85.2', '79', '15.3', dict(params=CUT, flops=CUT)),
            ('RepLKNet-31B, 21k', '31b_in21k_384', 384, '86.0', '79', '45.1', dict(params=CUT)),
            ('RepLKNet-31L, 21k', '31l_in21k_384', 384, '86.6', '172', '96.0'),
            ('RepLKNet-XL, 73M', 'xl_320', 320, '87.8', '335', '128.7'),
        ],
    ),
    *make_rows(
        'imagenet/replknet_31b_',
        KERNELS,
        'top-1',
        COUNTING,
        [
            ('RepLKNet, kernels 3, 120 epochs', 'k3_120e', 224, '82.11', '71.8', '12.9', dict(params=SERIES)),
            ('RepLKNet, kernels 7, 120 epochs', 'k7_120e', 224, '82.73', '72.2', '13.1', dict(params=SERIES)),
            ('RepLKNet, kernels 13, 120 epochs', 'k13_120e', 224, '83.02', '73.7', '13.4', dict(params=SERIES)),
            ('RepLKNet, kernels 25, 120 epochs', 'k25_120e', 224, '83.00', '78.2', '14.8', dict(params=SERIES)),
            ('RepLKNet, kernels 31, 120 epochs', '120e', 224, '83.07', '79.3', '15.3', dict(params=SERIES, flops=CUT)),
        ],
    ),
    *make_rows(
        'cityscapes/upernet_',
        README,
        'mIoU/mIoU (ms)',
        COUNTING,
        [('RepLKNet-31B', 'replknet_31b_769', (1024, 2048), '83.1/83.5', '110', '2315')],
    ),
    *make_rows(
        'ade20k/upernet_replknet_',
        README,
        'mIoU/mIoU (ms)',
        COUNTING,
        [
            ('RepLKNet-31B', '31b', ADE20K, '49.9/50.6', '112', '1170'),
            ('RepLKNet-31B, 21k', '31b_in21k_640', ADE20K_LARGE, '51.5/52.3', '112', '1829'),
            ('RepLKNet-31L, 21k', '31l_in21k_640', ADE20K_LARGE, '52.4/52.7', '207', '2404'),
            ('RepLKNet-XL, 73M', 'xl_640', ADE20K_LARGE, '55.2/56.0', '374', '3431'),
        ],
    ),
    *make_rows(
        'ade20k/upernet_replknet_31b',
        'arXiv 2403.07589, Table 2',
        'mIoU',
        COUNTING,
        [('RepLKNet-31B', '', ADE20K, '49.9', '112', '1170')],
    ),
    *make_rows(
        'ade20k/upernet_replknet_31b_',
        KERNELS,
        'mIoU',
        COUNTING,
        [
            ('RepLKNet, kernels 3, 80k', 'k3_80k', ADE20K, '46.05', '104.1', '1119'),
            ('RepLKNet, kernels 7, 80k', 'k7_80k', ADE20K, '48.05', '104.6', '1123'),
            ('RepLKNet, kernels 13, 80k', 'k13_80k', ADE20K, '48.35', '106.0', '1130'),
            ('RepLKNet, kernels 25, 80k', 'k25_80k', ADE20K, '48.68', '110.6', '1159'),
            ('RepLKNet, kernels 31, 80k', '80k', ADE20K, '49.17', '112', '1170'),
        ],
    ),
    *make_rows(
        'coco/',
        README,
        'box AP',
        COUNTING,
        [('RepLKNet-31B, FCOS', 'fcos_replknet_31b', COCO, '47.0', '87', '437')],
    ),
    *make_rows(
        'coco/cascade_mask_rcnn_replknet_',
        README,
        'box AP/mask AP',
        COUNTING,
        [
            ('RepLKNet-31B', '31b', COCO, '52.2/45.2', '137', '965'),
            ('RepLKNet-31B, 21k', '31b_in21k', COCO, '53.0/46.0', '137', '965'),
            ('RepLKNet-31L, 21k', '31l_in21k', COCO, '53.9/46.5', '229', '1321'),
            ('RepLKNet-XL, 73M', 'xl', COCO, '55.5/48.0', '392', '1958'),
        ],
    ),
    *make_rows(
        'coco/cascade_mask_rcnn_replknet_',
        'arXiv 2403.07589, Table 3',
        'box AP/mask AP',
        COUNTING,
        [('RepLKNet-31B', '31b', COCO, '52.2/45.2', '137', '965')],
    ),
]

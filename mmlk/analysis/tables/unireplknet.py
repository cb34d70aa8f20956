"""Tables of UniRepLKNet's repository; the papers are arXiv 2311.15599 and 2410.08049."""

from mmlk.analysis.tables.row import ADE20K, ADE20K_LARGE, COCO, CUT, Counting, make_rows

# Found by what fits all rows: the auxiliary head of a segmentor is left out.
COUNTING = Counting(merged_params=True, auxiliary_head=False)

README = 'README of AILab-CVC/UniRepLKNet'

ROWS = [
    *make_rows(
        'imagenet/unireplknet_',
        README,
        'top-1',
        COUNTING,
        [
            ('UniRepLKNet-A', 'a', 224, '77.0', '4.4', '0.6'),
            ('UniRepLKNet-F', 'f', 224, '78.6', '6.2', '0.9'),
            ('UniRepLKNet-P', 'p', 224, '80.2', '10.7', '1.6'),
            ('UniRepLKNet-N', 'n', 224, '81.6', '18.3', '2.8'),
            ('UniRepLKNet-T', 't', 224, '83.2', '31', '4.9'),
            ('UniRepLKNet-S', 's', 224, '83.9', '56', '9.1'),
            ('UniRepLKNet-S, 21k', 's_in21k_384', 384, '86.4', '56', '26.7'),
            ('UniRepLKNet-B, 21k', 'b_in21k_384', 384, '87.4', '98', '47.2'),
            ('UniRepLKNet-L, 21k', 'l_in21k_384', 384, '87.9', '218', '105.4'),
            ('UniRepLKNet-XL, 21k', 'xl_in21k_384', 384, '88.0', '386', '187', dict(params=CUT)),
        ],
    ),
    *make_rows(
        'ade20k/upernet_unireplknet_',
        README,
        'mIoU/mIoU (ms)',
        COUNTING,
        [
            ('UniRepLKNet-T', 't', ADE20K, '48.6/49.1', '61', '946'),
            ('UniRepLKNet-S', 's', ADE20K, '50.5/51.0', '86', '1036'),
            ('UniRepLKNet-S, 21k', 's_in21k', ADE20K, '51.9/52.7', None, '1036'),
            ('UniRepLKNet-S, 21k', 's_in21k_640', ADE20K_LARGE, '52.3/52.7', None, '1618'),
            ('UniRepLKNet-B, 21k', 'b_in21k_640', ADE20K_LARGE, '53.5/53.9', '130', '1850'),
            ('UniRepLKNet-L, 21k', 'l_in21k_640', ADE20K_LARGE, '54.5/55.0', '254', '2507'),
            ('UniRepLKNet-XL, 21k', 'xl_in21k_640', ADE20K_LARGE, '55.2/55.6', '425', '3420'),
        ],
    ),
    *make_rows(
        'coco/cascade_mask_rcnn_unireplknet_',
        README,
        'box AP/mask AP',
        COUNTING,
        [
            ('UniRepLKNet-T', 't', COCO, '51.7/44.9', '89', '749'),
            ('UniRepLKNet-S', 's', COCO, '53.0/45.9', '113', '835'),
            ('UniRepLKNet-S, 21k', 's_in21k', COCO, '54.3/47.1', None, None),
            ('UniRepLKNet-B, 21k', 'b_in21k', COCO, '54.8/47.4', '155', '978'),
            ('UniRepLKNet-L, 21k', 'l_in21k', COCO, '55.8/48.4', '276', '1385'),
            ('UniRepLKNet-XL, 21k', 'xl_in21k', COCO, '56.4/49.0', '443', '1952'),
        ],
    ),
]

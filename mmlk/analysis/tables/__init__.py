"""Published figures as data: every row of the papers' tables for a network of this package, with its config.

Figures are kept as printed, so that '54.0' stays '54.0'. ``tools/table.py`` and ``docs/model_zoo.md`` are made of them.
"""

from __future__ import annotations

from mmlk.analysis.tables import pelk, replknet, shiftwise, slak, unireplknet
from mmlk.analysis.tables.row import Comparison, Counting, Row, compare

#: Data sets in the order of the tables, with the metrics that are printed.
METRICS = {
    'imagenet': ('top-1',),
    'ade20k': ('mIoU', 'mIoU (ms)'),
    'cityscapes': ('mIoU', 'mIoU (ms)'),
    'coco': ('box AP', 'mask AP'),
}
DATASETS = tuple(METRICS)

ROWS: tuple[Row, ...] = tuple(
    row
    for dataset in DATASETS
    for table in (pelk, replknet, slak, shiftwise, unireplknet)
    for row in table.ROWS
    if row.dataset == dataset
)

#: Configs that no published figure belongs to, and what they are for.
UNPUBLISHED: dict[str, str] = {
    'imagenet/pelk_b_101': 'pretraining at 224; PeLK-B-101 is published at 384 only',
    'imagenet/replknet_31b_in21k_pretrain': 'pretraining on ImageNet-21K',
    'imagenet/replknet_31l_in21k_pretrain': 'pretraining on ImageNet-21K',
    'imagenet/shiftwise_v1_t': 'SW v1; the authors print figures of earlier arrangements of its small kernels only',
    'imagenet/shiftwise_v1_t_120e': 'the same, 120 epochs',
    'imagenet/unireplknet_s_in21k_pretrain': 'pretraining on ImageNet-21K',
    'imagenet/unireplknet_b_in21k_pretrain': 'pretraining on ImageNet-21K',
    'imagenet/unireplknet_l_in21k_pretrain': 'pretraining on ImageNet-21K',
    'imagenet/unireplknet_xl_in21k_pretrain': 'pretraining on ImageNet-21K',
    'ade20k/upernet_shiftwise_v1_t': 'SW v1, of which the authors publish no segmentor',
}


def rows_of(dataset: str) -> list[Row]:
    """The rows of one data set, one of :data:`DATASETS`."""
    return [row for row in ROWS if row.dataset == dataset]


__all__ = ['DATASETS', 'METRICS', 'ROWS', 'UNPUBLISHED', 'Comparison', 'Counting', 'Row', 'compare', 'rows_of']

"""The summary that ends a run, from logs as MMEngine writes them."""

import json

import pytest

from mmlk.cli.summary import read_summary, summary_rows
from mmlk.errors import UsageError


def rows_of(work_dir, *records) -> dict[str, str]:
    log = work_dir / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(''.join(json.dumps(record) + '\n' for record in records))
    return dict(summary_rows(read_summary(work_dir)))


def test_loop_of_iterations(tmp_path):
    # The last two iterations were not logged.
    rows = rows_of(tmp_path, {'loss': 2.5, 'step': 10}, {'mIoU': 12.345, 'time': 0.1, 'step': 12})
    assert rows == {
        'iterations': '12',
        'final loss': '2.5000',
        'mIoU': '12.35',
        'checkpoint': 'none',
        'log': 'none',
    }


def test_loop_of_epochs(tmp_path):
    """MMEngine counts its validations in epochs; mmdet's metrics are fractions."""
    metrics = {'coco/bbox_mAP_50': 0.5594, 'coco/bbox_mAP_l': -1.0, 'data_time': 0.1, 'step': 2}
    rows = rows_of(tmp_path, {'loss': 1.0, 'step': 120}, metrics)
    assert rows['iterations'] == '120'
    assert rows['coco/bbox_mAP_50'] == '55.9 %'
    assert rows['coco/bbox_mAP_l'] == 'nothing to evaluate'
    assert 'data_time' not in rows


def test_density_of_sparse_training_is_no_metric(tmp_path):
    rows = rows_of(tmp_path, {'loss': 1.0, 'density': 0.6, 'step': 10}, {'density': 0.6, 'density/s0': 0.5, 'step': 10})
    assert rows == {'iterations': '10', 'final loss': '1.0000', 'checkpoint': 'none', 'log': 'none'}


def test_no_run(tmp_path):
    with pytest.raises(UsageError, match='found no logged run'):
        read_summary(tmp_path)

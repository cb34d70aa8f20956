"""Every row of the papers' ImageNet tables: ours has the printed digits, or the table of figures says why not."""

import pytest
from mmengine.config import Config

from mmlk.analysis.config_complexity import config_complexity
from mmlk.analysis.tables import Row, compare, rows_of
from mmlk.analysis.tables.row import CUT

ROWS = [row for row in rows_of('imagenet') if row.params is not None]


@pytest.fixture(scope='module')
def count(repository):
    """Counts a row; networks that differ in training only are counted once."""
    counted = {}

    def count_row(row: Row):
        cfg = Config.fromfile(repository / row.path)
        backbone = {
            name: value for name, value in cfg.model.backbone.items() if name not in ('drop_path_rate', 'init_cfg')
        }
        key = (str(sorted(backbone.items())), row.input_size, row.counting)
        if key not in counted:
            counted[key] = config_complexity(cfg, row.input_size, row.counting)
        return counted[key]

    return count_row


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.config.partition('/')[2])
def test_printed_digits(row, count):
    for name, found in compare(row, count(row)).items():
        # A deviation that is none any more has to leave the list.
        assert found.same_digits is (name not in row.causes), f'{name}: {found.ours:.4f} against {found.printed}'
        assert found.relative == pytest.approx(0, abs=0.05) or found.same_digits
        if found.cause == CUT:
            scale = 10 ** len(found.printed.partition('.')[2])
            assert int(found.ours * scale) == int(float(found.printed) * scale + 0.5)

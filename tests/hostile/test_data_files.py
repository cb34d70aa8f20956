"""A slice of the campaign on damaged data, and its committed result."""

from hostile.data_files import CAMPAIGN
from hostile.slices import assert_committed, assert_slice


def test_slice():
    assert_slice(CAMPAIGN, len(CAMPAIGN.kinds))


def test_committed():
    assert_committed(CAMPAIGN, 100)

"""A slice of the campaign on damaged checkpoints, and its committed result."""

from hostile.checkpoints import CAMPAIGN
from hostile.slices import assert_committed, assert_slice


def test_slice():
    assert_slice(CAMPAIGN, len(CAMPAIGN.kinds))


def test_committed_result():
    assert_committed(CAMPAIGN, 200)

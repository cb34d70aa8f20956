"""A slice of the campaign on configs, and its committed result."""

from hostile.configs import CAMPAIGN
from hostile.slices import assert_committed, assert_slice


def test_slice():
    assert_slice(CAMPAIGN, len(CAMPAIGN.kinds))


def test_committed():
    assert_committed(CAMPAIGN, 300)

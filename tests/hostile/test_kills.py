"""Runs killed at random moments."""

from hostile.kills import CAMPAIGN
from hostile.slices import assert_committed, assert_slice


def test_slice():
    assert_slice(CAMPAIGN, len(CAMPAIGN.kinds))


def test_committed_result():
    assert_committed(CAMPAIGN, 20)

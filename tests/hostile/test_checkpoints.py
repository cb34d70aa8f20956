"""A slice of the campaign on damaged checkpoints, its committed result, and that its hostile content is hostile."""

import pickle
from contextlib import suppress

import pytest
from children import in_children
from hostile.checkpoint_values import CONFIG_TEXTS
from hostile.checkpoints import CAMPAIGN
from hostile.payloads import PROGRAMS, as_pickle
from hostile.slices import assert_committed, assert_slice
from mmengine.config import Config


def runs(function, content, *arguments):
    """Hand a program to what runs it, in a process of its own, because it may change what all share."""

    def run():
        # What comes out may be of no use to the rest; the program has run by then.
        with suppress(TypeError, ValueError, AttributeError, RuntimeError, SyntaxError):
            function(content, *arguments)

    assert in_children(run) == [0]


@pytest.mark.parametrize('name', PROGRAMS)
def test_programs_run_where_nothing_stops_them(name, tmp_path):
    """The campaign proves something only if what it writes would otherwise run."""
    canary = tmp_path / 'canary'
    runs(pickle.loads, as_pickle(PROGRAMS[name](canary)))
    assert canary.exists()


@pytest.mark.parametrize('name', ['a call', 'a call in a value', 'a base', 'a default', 'another dict', 'an f-string'])
def test_config_texts_run_where_nothing_stops_them(name, tmp_path):
    canary = tmp_path / 'canary'
    (tmp_path / 'evil.py').write_text(f'open({str(canary)!r}, "w")')
    runs(Config.fromstring, CONFIG_TEXTS[name](tmp_path, canary), '.py')
    assert canary.exists()


def test_slice():
    assert_slice(CAMPAIGN, len(CAMPAIGN.kinds))


def test_committed_result():
    assert_committed(CAMPAIGN, 200)

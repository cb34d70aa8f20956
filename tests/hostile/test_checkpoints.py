"""A slice of the campaign on damaged checkpoints, its committed result, and that its hostile content is hostile."""

import pickle

import pytest
from hostile.checkpoint_values import CONFIG_TEXTS
from hostile.checkpoints import CAMPAIGN
from hostile.payloads import PROGRAMS, as_pickle
from hostile.slices import assert_committed, assert_slice
from mmengine.config import Config


@pytest.mark.filterwarnings('ignore::ResourceWarning')
@pytest.mark.parametrize('name', PROGRAMS)
def test_programs_run_where_nothing_stops_them(name, tmp_path):
    """The campaign proves something only if what it writes would otherwise run."""
    canary = tmp_path / 'canary'
    content = as_pickle(PROGRAMS[name](canary))
    try:
        pickle.loads(content)
    except (TypeError, ValueError, AttributeError):
        # What the program returns may be of no use to the rest of the pickle; it has run by then.
        pass
    assert canary.exists()


@pytest.mark.parametrize('name', ['a call', 'a call in a value', 'a base', 'a default', 'another dict', 'an f-string'])
def test_config_texts_run_where_nothing_stops_them(name, tmp_path):
    canary = tmp_path / 'canary'
    (tmp_path / 'evil.py').write_text(f'open({str(canary)!r}, "w")')
    try:
        Config.fromstring(CONFIG_TEXTS[name](tmp_path, canary), '.py')
    except (TypeError, ValueError, AttributeError, RuntimeError, SyntaxError):
        # The config that comes out may hold what no config can.
        pass
    assert canary.exists()


def test_slice():
    assert_slice(CAMPAIGN, len(CAMPAIGN.kinds))


def test_committed_result():
    assert_committed(CAMPAIGN, 200)

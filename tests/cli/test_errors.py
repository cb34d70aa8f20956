"""What a user sees instead of a traceback."""

import pytest

from mmlk.cli.errors import INTERRUPT_STATUS, USAGE_STATUS, one_sentence
from mmlk.errors import UsageError


@pytest.mark.parametrize('settings', [{}, {'interrupted': 'stopped; continue with --resume'}], ids=['plain', 'hint'])
def test_interrupt_names_only_what_the_tool_has(settings, capsys):
    with pytest.raises(SystemExit) as stop, one_sentence(**settings):
        raise KeyboardInterrupt
    assert stop.value.code == INTERRUPT_STATUS
    assert capsys.readouterr().err == f'\n{settings.get("interrupted", "stopped")}\n'


def test_user_error_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop, one_sentence(ValueError):
        raise UsageError('expected a, got b')
    assert stop.value.code == USAGE_STATUS
    assert capsys.readouterr().err == 'error: expected a, got b\n'


def test_other_errors_pass():
    with pytest.raises(RuntimeError), one_sentence(ValueError):
        raise RuntimeError('ours')

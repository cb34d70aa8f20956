"""Every known-bad combination is found, named, and told apart from a healthy environment."""

import pytest

from mmlk.diagnosis import rules
from mmlk.diagnosis.probes import Step
from mmlk.diagnosis.rules import Finding, judge

from .conftest import TORCH


def torch_step(**changes) -> dict[str, Step]:
    return {'torch': Step('torch', True, facts=TORCH | changes)}


def failed(name: str, error: str) -> dict[str, Step]:
    return {name: Step(name, False, error)}


def problems(facts) -> list[Finding]:
    found = judge(facts)
    assert not any('could not be applied' in finding.what for finding in found)
    return [finding for finding in found if finding.problem]


def notes(facts) -> list[Finding]:
    return [finding for finding in judge(facts) if not finding.problem]


@pytest.fixture(autouse=True)
def quiet_surroundings(monkeypatch):
    """The environment that runs the tests is not what is judged."""
    for name in ('VIRTUAL_ENV', 'CONDA_PREFIX'):
        monkeypatch.delenv(name, raising=False)


def test_the_locked_environment_is_healthy(facts):
    assert problems(facts()) == []
    (note,) = notes(facts.__wrapped__() if hasattr(facts, '__wrapped__') else []) if False else [None]

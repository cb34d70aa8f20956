"""The frame: every outcome is told apart, cases can be repeated, the result file says what was run."""

import json
import os
import subprocess
import sys
import time

import pytest
from hostile.campaign import (
    CODE_RAN,
    HALF_WRITTEN,
    HANG,
    SENTENCE,
    UNEXPLAINED,
    WORKED,
    WRONG,
    Attempt,
    Campaign,
    Unexplained,
    Wrong,
    numbers_of,
    run,
)

from mmlk.errors import UsageError
from mmlk.files import write_whole


def raises(error):
    def run():
        raise error

    return run


def works(rng, place):
    return Attempt(f'number {rng.random()}', lambda: None, expects=WORKED)


def says(rng, place):
    return Attempt('text', raises(UsageError('depth must be positive, got -1')), names=('depth',), expects=SENTENCE)


def says_from_the_package(rng, place):
    from mmlk.ops.checks import check_odd

    return Attempt('edge 2', lambda: check_odd('kernel_size', (2, 2)), names=('kernel_size',))


def names_nothing(rng, place):
    return Attempt('text', raises(UsageError('it could not be read at all')), names=('depth',))


def several_lines(rng, place):
    return Attempt('text', raises(UsageError('depth must be positive:\nit was not')), names=('depth',))


def foreign(rng, place):
    return Attempt('text', raises(ValueError('depth must be positive, got -1')), names=('depth',))


def exits(rng, place):
    return Attempt('text', raises(SystemExit(2)))


def crashes(rng, place):
    return Attempt('abort', os.abort)


def leaves_early(rng, place):
    return Attempt('exit', lambda: os._exit(0))


def cannot_be_made(rng, place):
    raise KeyError('no such thing')


def finds(rng, place):
    return Attempt('text', raises(Unexplained('a traceback, says the case')))


def is_wrong(rng, place):
    return Attempt('text', raises(Wrong('error 1e-3 exceeds 1e-6')))


def works_unexpectedly(rng, place):
    return Attempt('text', lambda: None, expects=SENTENCE)


def refuses_unexpectedly(rng, place):
    return Attempt('text', raises(UsageError('depth must be positive, got 1')), expects=WORKED)


def sleeps(rng, place):
    return Attempt('sleep', lambda: time.sleep(60))


def runs_code(rng, place):
    return Attempt('payload', lambda: place.canary.touch())


def leaves_a_part(rng, place):
    return Attempt('text', lambda: write_whole(place.folder / 'a/b.json.1.part', 'half'))


def leaves_an_output(rng, place):
    def run():
        (place.folder / 'out.pth').write_text('half')
        raise UsageError('out.pth could not be written')

    return Attempt('text', run, outputs=(place.folder / 'out.pth',))


EXPECTED = {
    works: WORKED,
    says: SENTENCE,
    says_from_the_package: SENTENCE,
    names_nothing: UNEXPLAINED,
    several_lines: UNEXPLAINED,
    foreign: UNEXPLAINED,
    exits: UNEXPLAINED,
    crashes: UNEXPLAINED,
    leaves_early: UNEXPLAINED,
    cannot_be_made: UNEXPLAINED,
    finds: UNEXPLAINED,
    is_wrong: WRONG,
    works_unexpectedly: WRONG,
    refuses_unexpectedly: WRONG,
    sleeps: HANG,
    runs_code: CODE_RAN,
    leaves_a_part: HALF_WRITTEN,
    leaves_an_output: HALF_WRITTEN,
}
CAMPAIGN = Campaign('frame', {function.__name__: function for function in EXPECTED}, cases=len(EXPECTED), limit=2.0)


@pytest.fixture(scope='module')
def report():
    return run(CAMPAIGN, numbers_of(CAMPAIGN, CAMPAIGN.cases), seed=3)


def test_outcomes(report):
    found = {outcome.kind: outcome.outcome for outcome in report.outcomes}
    assert found == {function.__name__: outcome for function, outcome in EXPECTED.items()}


def test_details(report):
    details = {outcome.kind: outcome.detail for outcome in report.outcomes}
    assert details['says'] == 'depth must be positive, got -1'
    assert 'SIGABRT' in details['crashes']
    assert details['foreign'].startswith('ValueError: depth must be positive, got -1 (test_campaign.py:')
    assert details['sleeps'] == 'no answer after 2 s'
    assert 'a/b.json.1.part' in details['leaves_a_part']
    assert details['leaves_an_output'] == 'left behind: out.pth'


def test_a_case_can_be_repeated_alone(report):
    (number,) = numbers_of(CAMPAIGN, CAMPAIGN.cases, 'works')
    (again,) = run(CAMPAIGN, [number], seed=3).outcomes
    assert again == report.outcomes[number]
    (other,) = run(CAMPAIGN, [number], seed=4).outcomes
    assert other.what != again.what


def test_numbers_of_a_kind():
    assert numbers_of(CAMPAIGN, 40, 'says') == [1, 19, 37]


def test_result_file(report, tmp_path):
    report.write(tmp_path / 'frame.json')
    content = json.loads((tmp_path / 'frame.json').read_text())
    assert (content['campaign'], content['seed'], content['cases']) == ('frame', 3, len(EXPECTED))
    assert content['versions']['torch'] and 'commit' in content and 'dirty' in content
    assert content['total'] == {
        name: list(EXPECTED.values()).count(name)
        for name in (WORKED, SENTENCE, UNEXPLAINED, WRONG, HANG, CODE_RAN, HALF_WRITTEN)
    }
    assert content['kinds']['sleeps'] == {HANG: 1}
    assert content['examples'] == {
        'says': ['depth must be positive, got -1'],
        'says_from_the_package': [
            'kernel_size must have positive odd edges, so that output and input have one size, got 2 x 2'
        ],
    }
    assert len(content['bad']) == len(EXPECTED) - 3
    assert content['bad'][0]['repeat'] == 'python tests/hostile frame --seed 3 --case 3'


def test_prepared_things_are_shared_and_folders_are_empty():
    def prepare(folder):
        (folder / 'file').write_text('once')
        return folder / 'file'

    def kind(rng, place):
        def run():
            assert place.shared.read_text() == 'once'
            assert list(place.folder.iterdir()) == [] and os.getcwd() == str(place.folder)
            (place.folder / 'left').touch()

        return Attempt('file', run, expects=WORKED)

    report = run(Campaign('folders', {'kind': kind}, cases=2, prepare=prepare), [0, 1], seed=0)
    assert report.bad == []


def test_command_line(repository):
    def hostile(*arguments):
        command = [sys.executable, repository / 'tests/hostile', *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=repository.parent)

    result = hostile('--help')
    assert (result.returncode, result.stderr) == (0, '')
    assert 'usage: python tests/hostile' in result.stdout
    result = hostile('ops', '--only', 'none')
    assert result.returncode == 2 and '--only must be one of' in result.stderr

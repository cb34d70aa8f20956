"""What a run would only notice in its first iteration is said when it is resumed, with the file."""

from types import SimpleNamespace

import pytest
import torch

from mmlk.cli.resume_checks import explain_resume, find_unusable_state
from mmlk.errors import UsageError


@pytest.fixture
def optimizer():
    """AdamW after a step."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer


def state(optimizer, index=0):
    return optimizer.state[optimizer.param_groups[0]['params'][index]]


def test_a_sound_state(optimizer):
    assert find_unusable_state(optimizer) == ''
    assert find_unusable_state(None) == ''
    state(optimizer).clear()
    assert find_unusable_state(optimizer) == ''
    # Of an optimizer with tensors as rates, and with entries of its own.
    optimizer.param_groups[0]['lr'] = torch.tensor(0.1)
    state(optimizer, 1)['factors'] = torch.ones(7)
    assert find_unusable_state(optimizer) == ''


@pytest.mark.parametrize('rate', ['high', None, float('nan'), True, torch.ones(2), [0.1]])
def test_rates(optimizer, rate):
    optimizer.param_groups[0]['lr'] = rate
    assert find_unusable_state(optimizer).startswith('the learning rate of group 0 of its optimizer is ')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(exp_avg=torch.ones(3)), r'exp_avg of a parameter (2, 3) in its optimizer has shape (3,)'),
        (dict(exp_avg='m'), "exp_avg of a parameter in its optimizer is 'm'"),
        (dict(exp_avg_sq=2.0), r'exp_avg_sq of a parameter (2, 3) in its optimizer has shape None'),
        (dict(step='x'), "step of a parameter in its optimizer is 'x'"),
        (dict(step=torch.tensor(float('nan'))), 'step of a parameter in its optimizer is tensor(nan)'),
    ],
)
def test_states(optimizer, changes, message):
    state(optimizer).update(changes)
    assert find_unusable_state(optimizer) == message


def test_state_that_is_no_dict(optimizer):
    optimizer.state[optimizer.param_groups[0]['params'][0]] = 'adam'
    assert find_unusable_state(optimizer) == 'the state of a parameter in its optimizer is str'


def runner_that(resume, optimizer=None):
    runner = SimpleNamespace(resume=resume, optim_wrapper=SimpleNamespace(optimizer=optimizer))
    explain_resume(runner)
    return runner


def test_failures_name_the_file(optimizer):
    def resume(filename):
        raise KeyError('param_groups')

    with pytest.raises(
        UsageError, match=r"^a.pth cannot be resumed from: there is no key 'param_groups'.*; resume from"
    ):
        runner_that(resume).resume('a.pth')
    optimizer.param_groups[0]['lr'] = 'high'
    with pytest.raises(UsageError, match="^a.pth cannot be resumed from: the learning rate of group 0 .* is 'high'; "):
        runner_that(lambda filename: None, optimizer).resume('a.pth')


def test_sentences_pass_as_they_are():
    def resume(filename):
        raise UsageError('a.pth lacks meta')

    with pytest.raises(UsageError, match='^a.pth lacks meta$'):
        runner_that(resume).resume('a.pth')

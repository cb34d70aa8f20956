"""What python -m mmlk.cli.launch adds to torchrun."""

import signal
import socket
from types import SimpleNamespace

import pytest
from torch.distributed import run

from mmlk.cli import launch
from mmlk.errors import UsageError


def arguments(*more):
    return run.parse_args([*more, 'script.py'])


def failure(exitcode, timestamp=0, pid=17):
    return SimpleNamespace(exitcode=exitcode, timestamp=timestamp, pid=pid)


@pytest.fixture
def taken():
    """A port that another program listens at."""
    with socket.socket() as other:
        other.bind(('', 0))
        other.listen()
        yield other.getsockname()[1]


def test_one_machine_takes_a_free_port():
    port = launch.choose_port(arguments('--nnodes=1', '--master-port=0'))
    assert 1024 <= port < 65536


def test_several_machines_meet_at_a_known_one():
    assert launch.choose_port(arguments('--nnodes=3', '--node-rank=2', '--master-port=0')) == 29500
    assert launch.choose_port(arguments('--nnodes=3', '--node-rank=2', '--master-port=7')) == 7


def test_port_in_use(taken, capsys):
    command = ['--nnodes=1', f'--master-port={taken}', '--nproc-per-node=2', 'script.py']
    with pytest.raises(UsageError, match=f'port {taken} of this machine cannot be used.*PORT={taken + 1} bash'):
        launch.choose_port(run.parse_args(command))
    assert launch.main(command) == 2
    assert capsys.readouterr().err.startswith(f'error: port {taken}')


@pytest.mark.parametrize(
    ('failures', 'status', 'words'),
    [
        # The one that was killed, not the one that lost it, whichever the launcher saw first.
        ({0: failure(1, 5), 1: failure(-signal.SIGKILL, 6)}, 137, 'process 1 (pid 17) was ended by SIGKILL (often for'),
        (
            {0: failure(-signal.SIGTERM, 6), 2: failure(-signal.SIGSEGV, 6)},
            139,
            'process 2 (pid 17) was ended by SIGSEGV;',
        ),
        # What ended by itself has said why.
        ({0: failure(-signal.SIGTERM, 6), 1: failure(2, 5)}, 2, ''),
        ({0: failure(143, 5), 1: failure(143, 5)}, 143, ''),
    ],
)
def test_report(failures, status, words, capsys):
    assert launch._report(failures) == status
    err = capsys.readouterr().err
    assert err.startswith(f'error: {words}') if words else not err

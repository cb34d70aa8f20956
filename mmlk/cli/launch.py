"""torchrun for the scripts of tools/, with a free port, and one sentence where a process dies."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from mmlk.errors import UsageError
from mmlk.launcher import DEFAULT_PORT

INTERRUPTED = 128
USAGE_STATUS = 2


def main(arguments: list[str] | None = None) -> int:
    """Run a script in several processes, with the arguments of torchrun; ``--master-port=0`` takes a free one.

    Returns:
        Status of the process that failed first, 128 + signal where a signal ended it or this launcher, else 0.
    """
    args = run.parse_args(arguments)
    try:
        args.master_port = choose_port(args)
    except UsageError as error:
        print(f'error: {error}', file=sys.stderr)
        return USAGE_STATUS
    # Cores are shared out; torchrun would give one to each process, with a warning.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, cores // int(args.nproc_per_node))))
    # What it logs repeats what the processes have said, as tracebacks.
    logging.disable(logging.ERROR)
    try:
        run.run(args)
    except ChildFailedError as error:
        return _report(error.failures)
    except SignalException as stop:
        print(f'\nstopped by {stop.sigval.name}', file=sys.stderr)
        return INTERRUPTED + stop.sigval
    return 0


def choose_port(args: argparse.Namespace) -> int:
    """The port at which processes find each other.

    Raises:
        UsageError: Another program uses it.
    """
    port, alone = args.master_port, args.nnodes == '1'
    if port == 0 and not alone:
        port = DEFAULT_PORT
    if args.node_rank == 0:
        with socket.socket() as probe:
            # As the listener does: a port that was left a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(('', port))
            except OSError as error:
                raise UsageError(
                    f'port {port} of this machine cannot be used ({error.strerror}); choose another for all machines: '
                    f'PORT={port + 1} bash tools/dist_train.sh ...'
                ) from None
            port = probe.getsockname()[1]
    return port


def _report(failures: dict[int, ProcessFailure]) -> int:
    """Name the process that a signal has ended; what exits by itself has said why."""

    def cause(failure: ProcessFailure) -> tuple[bool, int]:
        # The launcher ends the others by SIGTERM, and they end when a process is gone.
        return (failure.exitcode >= 0 or failure.exitcode == -signal.SIGTERM, failure.timestamp)

    rank, first = min(failures.items(), key=lambda item: cause(item[1]))
    if first.exitcode >= 0:
        return first.exitcode
    name = signal.Signals(-first.exitcode).name
    why = ' (often for lack of memory)' if name == 'SIGKILL' else ''
    print(
        f'error: process {rank} (pid {first.pid}) was ended by {name}{why}; the others were stopped, a training run '
        'continues with the same command and --resume',
        file=sys.stderr,
    )
    return INTERRUPTED - first.exitcode


if __name__ == '__main__':
    sys.exit(main())

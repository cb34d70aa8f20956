"""The run behind ``tools/doctor.py``. Needs the standard library alone."""

from __future__ import annotations

import argparse
import json
import sys

from mmlk.diagnosis import diagnose, to_dict, to_lines
from mmlk.diagnosis.worker import STEPS

#: The status of an environment in which something fails.
PROBLEM_STATUS = 1
#: Steps that import the packages of OpenMMLab, the slow ones.
SLOW_STEPS = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'mmlk')


def run(args: argparse.Namespace) -> int:
    """Examine and print; the exit status."""
    steps = [name for name in STEPS if not (args.quick and name in SLOW_STEPS)]
    show = sys.stderr.isatty()

    def advance(name: str) -> None:
        if show:
            print(f'\rimporting packages, from {name} on; up to a minute ...', end='', file=sys.stderr, flush=True)

    report = diagnose(steps, advance)
    if show:
        print('\r' + ' ' * 79 + '\r', end='', file=sys.stderr, flush=True)
    # Terminals of broken environments know few letters.
    sys.stdout.reconfigure(errors='replace')
    if args.json:
        print(json.dumps(to_dict(report), indent=2))
    else:
        print('\n'.join(to_lines(report)))
    return PROBLEM_STATUS if report.problems else 0

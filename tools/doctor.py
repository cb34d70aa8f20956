"""Say what is installed and whether it works: versions, imports, operators, GPU, known problems and their cure."""

# Has to run where nothing else does: an old Python reads this file, and only the standard library is needed.
import json
import os
import sys

OLDEST = (3, 11)

EXAMPLES = """\
  python tools/doctor.py
  python tools/doctor.py --quick            without importing the packages of OpenMMLab
  python tools/doctor.py --json             everything, machine-readable; attach it to an issue

Packages are imported in another process, so that a crash is a line of the report. Ends with status 0 where
nothing is wrong, 1 where something is (a line each: what, cure), 2 on wrong usage. docs/faq.md has more.
"""


def too_old(as_json):
    """What can be said without the package, which an old Python cannot read."""
    version = '{}.{}'.format(*sys.version_info[:2])
    what = f'Python {version} ({sys.executable}) is too old for mmlk'
    cure = 'use Python 3.11 or 3.12: PYTHON=python3.12 bash tools/quickstart.sh makes an environment'
    if as_json:
        print(json.dumps({'healthy': False, 'problems': [{'what': what, 'cure': cure}], 'notes': []}, indent=2))
    else:
        print(f'problem: {what}\n  cure: {cure}\n\n1 problem')
    return 1


def find_package():
    """Where mmlk is not installed, take the one of this checkout, or of the package this file lies in."""
    folder = os.path.dirname(os.path.abspath(__file__))
    for root in (os.path.dirname(folder), os.path.join(folder, *[os.pardir] * 3)):
        if os.path.isfile(os.path.join(root, 'mmlk', 'diagnosis', '__init__.py')):
            sys.path.append(os.path.abspath(root))
            return


def main():
    if sys.version_info < OLDEST:
        return too_old('--json' in sys.argv[1:])
    find_package()
    from mmlk.cli.arguments import make_parser

    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('--json', action='store_true', help='everything as JSON')
    parser.add_argument('--quick', action='store_true', help='leave the packages of OpenMMLab alone (3 s, not 30)')
    args = parser.parse_args()
    from mmlk.cli.doctor import run

    try:
        return run(args)
    except KeyboardInterrupt:
        print('\nstopped', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())

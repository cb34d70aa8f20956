"""Run a hostile input campaign and write what came out.

Every case is an input as a user, a damaged disk or an attacker could give it. It has to work or to be refused with one
sentence that names what is wrong; anything else is a failure.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

# The campaigns import each other, and the helpers of the tests, by these paths.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

#: Module with the ``CAMPAIGN`` of each.
CAMPAIGNS = {
    'ops': 'hostile.op_arguments',
    'checkpoints': 'hostile.checkpoints',
    'configs': 'hostile.configs',
    'data': 'hostile.data_files',
    'kills': 'hostile.kills',
}
INTERRUPT_STATUS = 130
EXAMPLES = """\
examples:
  python tests/hostile ops                             all cases; writes tests/hostile/results/ops.json
  python tests/hostile checkpoints --only truncated    the cases of one kind; writes nothing
  python tests/hostile ops --seed 0 --case 17          one case again, as a result file names it
  python tests/hostile ops --list                      the kinds of input

Ends with status 1 where a case failed.
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python tests/hostile',
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('campaign', choices=CAMPAIGNS, help='what is attacked')
    parser.add_argument('--cases', type=int, help='how many cases (default: as many as the committed result has)')
    parser.add_argument('--seed', type=int, default=0, help='of the cases (default: 0)')
    parser.add_argument('--only', metavar='KIND', help='only the cases of this kind')
    parser.add_argument('--case', type=int, metavar='N', help='only case N')
    parser.add_argument('--list', action='store_true', help='print the kinds of input, run nothing')
    parser.add_argument(
        '--results',
        type=Path,
        help='file to write (default: tests/hostile/results/CAMPAIGN.json; none with --only or --case)',
    )
    args = parser.parse_args()
    args.campaign = import_module(CAMPAIGNS[args.campaign]).CAMPAIGN
    if args.only is not None and args.only not in args.campaign.kinds:
        parser.error(f'--only must be one of {", ".join(args.campaign.kinds)}, got {args.only!r}')
    for name in ('cases', 'case'):
        value = getattr(args, name)
        if value is not None and value < (name == 'cases'):
            parser.error(f'--{name} must be {"positive" if name == "cases" else "0 or larger"}, got {value}')
    return args


def main() -> int:
    args = parse_args()
    from hostile.campaign import GOOD, OUTCOMES, RESULTS, numbers_of, run

    from mmlk.cli.progress import make_progress

    campaign = args.campaign
    if args.list:
        print('\n'.join(campaign.kinds))
        return 0
    numbers = [args.case] if args.case is not None else numbers_of(campaign, args.cases or campaign.cases, args.only)
    path = args.results
    if path is None and args.only is None and args.case is None:
        path = RESULTS / f'{campaign.name}.json'
    with make_progress() as progress:
        task = progress.add_task(f'hostile {campaign.name}', total=len(numbers))

        def after_each(outcome) -> None:
            progress.advance(task)
            if outcome.outcome not in GOOD:
                # Through the bar, which would overwrite it.
                progress.console.print(
                    f'{outcome.number} {outcome.kind}: {outcome.outcome}: {outcome.what}: {outcome.detail}',
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )

        try:
            report = run(campaign, numbers, args.seed, after_each)
        except KeyboardInterrupt:
            print('stopped; nothing was written', file=sys.stderr)
            return INTERRUPT_STATUS
    content = report.as_content()
    if args.case is not None:
        (outcome,) = report.outcomes
        print(f'{outcome.kind}: {outcome.what}\n{outcome.outcome}: {outcome.detail}')
    else:
        for kind, counts in content['kinds'].items():
            print(f'{kind:<36}' + ', '.join(f'{name} {counts[name]}' for name in OUTCOMES if name in counts))
        total = ', '.join(f'{name} {count}' for name, count in content['total'].items())
        print(f'{content["cases"]} cases in {content["seconds"]} s: {total}')
    if path is not None:
        report.write(path)
        print(f'written to {path}')
    return int(bool(report.bad))


if __name__ == '__main__':
    sys.exit(main())

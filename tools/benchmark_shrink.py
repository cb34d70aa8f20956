"""Measure what cutting zeros out of fused large kernels gains, on the CPU, with networks of random weights."""

import argparse
import sys
from pathlib import Path

from mmlk.cli.arguments import image_size, make_parser, positive_float, positive_int
from mmlk.cli.errors import one_sentence

EXAMPLES = """\
  python tools/benchmark_shrink.py --json shrink.json
  python tools/benchmark_shrink.py --cases 'SLaK-T;1 arrangements' --verbose   what became of every layer
  python tools/benchmark_shrink.py --image-size 512 --batch-size 1
  python tools/benchmark_shrink.py --list                                      the cases

The output before and after cutting is compared; a difference beyond rounding ends the run with status 1.
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('--cases', metavar='FILTER', help='parts of names of cases, separated by ;')
    parser.add_argument('--batch-size', type=positive_int, default=2, metavar='N', help='images (default: 2)')
    parser.add_argument(
        '--image-size', type=image_size, default=(224, 224), metavar='EDGE', help='edge or HxW (default: 224)'
    )
    parser.add_argument('--depths', type=positive_int, nargs=4, metavar='D', help='blocks per stage, for a quick look')
    parser.add_argument('--threads', type=positive_int, metavar='N', help='threads of torch')
    parser.add_argument(
        '--seconds', type=positive_float, default=5.0, metavar='S', help='time per form of a network (default: 5)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results and the machine to FILE')
    parser.add_argument('--verbose', action='store_true', help='print what became of every layer')
    parser.add_argument('--list', action='store_true', help='print the cases and stop')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    with one_sentence(RuntimeError):
        from mmlk.cli.benchmark_shrink import list_cases, run

        if args.list:
            list_cases()
            return 0
        return run(args)


if __name__ == '__main__':
    sys.exit(main())

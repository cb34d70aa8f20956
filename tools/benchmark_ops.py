"""Measure the large-kernel depthwise convolutions against PyTorch's, per pass, dtype and shape."""

import argparse
import sys
from pathlib import Path

from mmlk.cli.arguments import make_parser, positive_float, positive_int
from mmlk.cli.errors import one_sentence

EXAMPLES = """\
  python tools/benchmark_ops.py --quick                            under a minute on two cores
  python tools/benchmark_ops.py --json benchmarks/results/cpu.json every shape
  python tools/benchmark_ops.py --device cuda --dtype bf16 fp32
  python tools/benchmark_ops.py --shapes PeLK,stripe               names or labels that contain one of these
  python tools/benchmark_ops.py --shapes 2x64x128x128x51           N C H W K of your own, or N C H W R S
  python tools/benchmark_ops.py --backend reference --quick        force one backend
  python tools/benchmark_ops.py --op peripheral                    kernels that share parameters, as in PeLK
  python tools/benchmark_ops.py --op peripheral --shapes 2x64x56x56x9+4+1+1+1+4+9   N C H W and the groups
  python tools/benchmark_ops.py --json FILE --resume               go on where it was stopped
  python tools/benchmark_ops.py --list                             the shapes

A result is compared with float64 before its time is printed; a wrong one ends the run with status 1.
docs/benchmarks.md says what is measured and how to read it.
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        '--op',
        choices=['depthwise', 'peripheral'],
        default='depthwise',
        help='depthwise_conv2d, or peripheral_conv2d with its sharing grids (default: depthwise)',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='where to run (default: a GPU if there is one)')
    parser.add_argument('--quick', action='store_true', help='a few shapes, shorter')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all results and the machine to FILE')
    parser.add_argument(
        '--resume', action='store_true', help='keep the rows that FILE (or FILE.part) has, and measure what is missing'
    )
    parser.add_argument(
        '--dtype',
        nargs='+',
        choices=['fp32', 'bf16', 'fp16', 'fp64'],
        help='number formats (default: fp32 on the CPU, bf16 and fp32 on a GPU)',
    )
    parser.add_argument('--shapes', metavar='FILTER', help='parts of names or labels, or sizes; comma-separated')
    parser.add_argument('--batch', type=positive_int, metavar='N', help='batch of every shape')
    parser.add_argument(
        '--layout',
        nargs='+',
        choices=['contiguous', 'channels_last'],
        default=['contiguous'],
        help='memory format of the input (default: contiguous)',
    )
    parser.add_argument('--backend', metavar='NAME', help='force a backend of the op')
    parser.add_argument('--threads', type=positive_int, metavar='N', help='threads of torch on the CPU')
    parser.add_argument(
        '--seconds', type=positive_float, metavar='S', help='time per implementation and pass (default: 0.3 on the CPU)'
    )
    parser.add_argument('--list', action='store_true', help='print the shapes and stop')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    kept = '; continue with the same command and --resume' if args.json else ''
    with one_sentence(interrupted=f'stopped{kept}'):
        from mmlk.cli.benchmark_ops import list_shapes, run

        if args.list:
            list_shapes(args.op)
            return 0
        return run(args)


if __name__ == '__main__':
    sys.exit(main())

"""Measure images per second and peak memory of a network built from a config, with synthetic images."""

import argparse
import sys
from pathlib import Path

from mmlk.cli.arguments import add_cfg_options, make_parser, positive_float, positive_int
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/benchmark_model.py configs/imagenet/pelk_t.py
  python tools/benchmark_model.py CONFIG --compare reference            how much faster than PyTorch's convolution
  python tools/benchmark_model.py CONFIG --mode train --amp bf16 --batch-size 64 --image-size 224
  python tools/benchmark_model.py CONFIG --mode inference --compile --json model.json
  python tools/benchmark_model.py CONFIG --backbone-only --image-size 512 2048

On the CPU the default batch and images are small; docs/benchmarks.md says what is measured.
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config file, or mmlk::FOLDER/NAME.py from any directory')
    add_cfg_options(parser)
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='where to run (default: a GPU if there is one)')
    parser.add_argument('--batch-size', type=positive_int, metavar='N', help='images per step')
    parser.add_argument(
        '--image-size', type=positive_int, nargs='+', metavar='EDGE', help='H W, or one edge, in pixels'
    )
    parser.add_argument(
        '--mode', nargs='+', choices=['train', 'inference'], default=['train', 'inference'], help='default: both'
    )
    parser.add_argument(
        '--form', nargs='+', choices=['train', 'fused'], default=['train', 'fused'], help='default: both in inference'
    )
    parser.add_argument('--compile', action='store_true', help='measure with torch.compile on the backbone as well')
    parser.add_argument('--amp', choices=['bf16'], help='autocast to this dtype')
    parser.add_argument('--backend', metavar='NAME', help='force a backend of the op')
    parser.add_argument('--compare', metavar='NAME', help='measure in turns with this backend, print the ratio')
    parser.add_argument('--backbone-only', action='store_true', help='leave out neck and heads')
    parser.add_argument('--threads', type=positive_int, metavar='N', help='threads of torch on the CPU')
    parser.add_argument('--seconds', type=positive_float, metavar='S', help='time per row (default: 5 on the CPU)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results and the machine to FILE')
    args = parser.parse_args()
    if args.image_size is not None and len(args.image_size) > 2:
        parser.error(f'argument --image-size: must be one edge, or H and W, got {len(args.image_size)} numbers')
    return args


def main() -> None:
    args = parse_args()
    # RuntimeError: a forced backend cannot run, memory is short, a compiler is missing.
    with one_sentence(*BUILD_ERRORS, RuntimeError):
        from mmlk.cli.benchmark_model import run
        from mmlk.cli.config import read_config

        run(read_config(args.config, args.cfg_options), args)


if __name__ == '__main__':
    sys.exit(main())

"""Draw the large kernels of a stage: its train-time branches and their fused sum, or the sharing grid of PeLK."""

import argparse
import sys

from mmlk.cli.arguments import add_cfg_options, make_parser, positive_int
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/draw_kernels.py configs/imagenet/slak_t.py slak_t.pth --stage 0 --out kernels.png
  python tools/draw_kernels.py CONFIG CKPT --stage 2 --block 4 --channels 12
  python tools/draw_kernels.py --sharing-grid 51 --out sharing.png           how PeLK shares parameters
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', nargs='?', help='config file, or mmlk::FOLDER/NAME.py from any directory')
    parser.add_argument('checkpoint', nargs='?', help='its checkpoint; without one, weights are random')
    parser.add_argument('--stage', type=int, default=0, metavar='S', help='0 to 3 (default: %(default)s)')
    parser.add_argument(
        '--block', type=int, default=-1, metavar='B', help='large kernel of the stage (default: the last)'
    )
    parser.add_argument('--channels', type=positive_int, default=8, metavar='N', help='kernels shown (default: 8)')
    parser.add_argument(
        '--sharing-grid', type=positive_int, metavar='K', help='draw the sharing grid of a K x K kernel'
    )
    parser.add_argument('--center-radius', type=int, default=2, metavar='R', help='of the grid (default: 2)')
    parser.add_argument('--out', default='work_dirs/kernels.png', metavar='PNG', help='default: %(default)s')
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence(*BUILD_ERRORS):
        from mmlk.cli.draw_kernels import run

        run(args)


if __name__ == '__main__':
    sys.exit(main())

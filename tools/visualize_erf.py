"""Draw effective receptive fields: the pixels that the centre of a feature map looks at, and the area they take."""

import argparse
import sys

from mmlk.cli.arguments import add_cfg_options, make_parser, positive_float, positive_int
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/visualize_erf.py configs/imagenet/pelk_t.py pelk_t.pth --images data/imagenet/val --out erf.png
  python tools/visualize_erf.py CONFIG a.pth CONFIG b.pth          two sets of weights side by side
  python tools/visualize_erf.py CONFIG CKPT --timm resnet101=pretrained convnext_tiny=convnext.pth
  python tools/visualize_erf.py CONFIG CKPT --per-stage --size 512 --num-images 10
  python tools/visualize_erf.py CONFIG --size 512 1024 --num-images 2          random weights, generated scenes

The protocol is RepLKNet's: 50 images of 1024 x 1024, centre of the last stage, log10(contribution + 1), the areas that
hold 20, 30, 50 and 99 %. Beside the PNG lie the matrices (.npy) and the results (.json); docs/erf.md says how to read
them.
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        'models',
        nargs='*',
        metavar='CONFIG [CKPT]',
        help='a config, or a checkpoint (.pth) of the config before it; without a checkpoint, weights are random',
    )
    parser.add_argument(
        '--timm',
        nargs='+',
        metavar='NAME',
        help='networks of timm: NAME (random weights), NAME=pretrained (downloaded), NAME=FILE',
    )
    parser.add_argument('--out', default='work_dirs/erf/erf.png', metavar='PNG', help='default: %(default)s')
    parser.add_argument(
        '--images',
        metavar='DIR',
        help='folder of pictures (default: the test set of the config where it is there, else generated scenes)',
    )
    parser.add_argument('--num-images', type=positive_int, default=50, metavar='N', help='default: %(default)s')
    parser.add_argument('--first', action='store_true', help='the first N pictures instead of N spread over all')
    parser.add_argument(
        '--size', type=positive_int, nargs='+', default=[1024], metavar='EDGE', help='H W, or one edge (default: 1024)'
    )
    stages = parser.add_mutually_exclusive_group()
    stages.add_argument('--stage', type=int, default=-1, metavar='S', help='0, 1, ..; default: -1, the last')
    stages.add_argument('--per-stage', action='store_true', help='all stages')
    parser.add_argument(
        '--thresholds', type=positive_float, nargs='+', default=[20, 30, 50, 99], metavar='PERCENT', help='of the areas'
    )
    parser.add_argument('--scale', choices=['log', 'linear'], default='log', help='default: %(default)s, as published')
    parser.add_argument(
        '--form',
        choices=['deploy', 'train'],
        default='deploy',
        help='fused, where it can be (default), or not: same map',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='where to run (default: a GPU if there is one)')
    parser.add_argument('--seed', type=int, default=0, help='of random weights and generated scenes')
    add_cfg_options(parser)
    args = parser.parse_args()
    if len(args.size) > 2:
        parser.error(f'argument --size: must be one edge, or H and W, got {len(args.size)} numbers')
    if any(percent >= 100 for percent in args.thresholds):
        parser.error(f'argument --thresholds: must be percentages below 100, got {max(args.thresholds):g}')
    return args


def main() -> None:
    args = parse_args()
    # RuntimeError: an image too small for the network, a GPU without enough memory.
    with one_sentence(*BUILD_ERRORS, RuntimeError):
        from mmlk.cli.visualize_erf import run

        run(args)


if __name__ == '__main__':
    sys.exit(main())

"""Draw which weights of a checkpoint are zero: the density of every layer, and the pattern of some."""

import argparse
import sys
from pathlib import Path

from mmlk.cli.arguments import add_cfg_options, image_size, make_parser
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/draw_sparsity.py work_dirs/slak_t/epoch_300.pth --out sparsity.png
  python tools/draw_sparsity.py CKPT --out sparsity.png --pattern-of stages.2.blocks.4
  python tools/draw_sparsity.py CKPT --out sparsity.png --config configs/imagenet/slak_t.py    sizes of the network too

Masks that a training left in the checkpoint count, else the zeros of its weights. Without --pattern-of, the pattern is
that of the sparse large kernels of stage 1, if there are any.
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('checkpoint', metavar='CKPT', type=Path, help='checkpoint to read')
    parser.add_argument('--out', type=Path, required=True, metavar='PNG', help='picture to write')
    parser.add_argument('--pattern-of', metavar='LAYER', help='part of the names of layers whose pattern is drawn')
    parser.add_argument('--config', help='config of the network: counts its non-zero parameters and MACs')
    parser.add_argument(
        '--image-size', type=image_size, default=(224, 224), metavar='EDGE', help='edge or HxW for the MACs (224)'
    )
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence(*BUILD_ERRORS):
        from mmlk.cli.draw_sparsity import run

        run(args)


if __name__ == '__main__':
    sys.exit(main())

"""Fuse the train-time branches of a trained model, prove that its outputs stay, write a checkpoint and its config."""

import argparse
import sys
from pathlib import Path

from mmlk.cli.arguments import add_cfg_options, image_size, make_parser, positive_int
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/reparam.py configs/ade20k/upernet_pelk_t.py work_dirs/upernet_pelk_t/iter_160000.pth fused/pelk_t.pth
  python tools/reparam.py CONFIG CKPT OUT.pth --form dense              one cross-shaped kernel instead of two strips
  python tools/reparam.py CONFIG CKPT OUT.pth --deep                    fold the BatchNorms of the heads as well
  python tools/reparam.py CONFIG CKPT OUT.pth --shrink                  cut what sparse training left at zero
  python tools/reparam.py CONFIG CKPT OUT.pth --verify-images pictures  compare on pictures, not on random images
  python tools/test.py OUT.py OUT.pth                                   what comes out

Ends with status 0 where both forms agree and OUT.pth and OUT.py are written, 1 where they differ (nothing is written),
2 on wrong usage. docs/reparam.md has the equations and the guarantees.
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config of the train form, or mmlk::FOLDER/NAME.py from any directory')
    parser.add_argument('checkpoint', metavar='CKPT', help='its checkpoint')
    parser.add_argument(
        'out', metavar='OUT', type=Path, help='fused checkpoint to write, OUT.pth; the deploy config OUT.py goes beside'
    )
    parser.add_argument(
        '--form', choices=['auto', 'dense', 'strips'], default='auto', help='fused form (default: what is faster)'
    )
    parser.add_argument('--deep', action='store_true', help='fold every BatchNorm behind a convolution, of any model')
    parser.add_argument(
        '--shrink', action='store_true', help='then cut what sparse training left at zero, where that is faster'
    )
    parser.add_argument('--force', action='store_true', help='replace OUT.pth and OUT.py')
    parser.add_argument('--demo', action='store_true', help='the checkpoint comes from `tools/train.py CONFIG --demo`')
    add_cfg_options(parser)
    comparing = parser.add_mutually_exclusive_group()
    comparing.add_argument(
        '--sizes',
        type=image_size,
        nargs='+',
        metavar='HxW',
        help='random images to compare on (default: 64 75x53 96x160 224)',
    )
    comparing.add_argument('--verify-images', type=Path, metavar='DIR', help='compare on the pictures of a folder')
    parser.add_argument(
        '--num-images', type=positive_int, metavar='N', default=8, help='pictures of --verify-images to take (8)'
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='where to time (default: a GPU if there is one)')
    parser.add_argument(
        '--latency-size', type=image_size, metavar='HxW', help='image to time (default: 224 classifiers, 512 others)'
    )
    parser.set_defaults(work_dir=None, launcher='none')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    # RuntimeError: memory is short.
    with one_sentence(*BUILD_ERRORS, RuntimeError):
        from mmlk.cli.reparam.run import run

        return run(args)


if __name__ == '__main__':
    sys.exit(main())

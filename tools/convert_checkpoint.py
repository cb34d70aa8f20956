"""Convert a checkpoint of the authors of SLaK, RepLKNet, SW, UniRepLKNet or of mmpretrain, or back."""

import sys
from pathlib import Path

from mmlk.checkpoints.families import FAMILIES
from mmlk.cli.arguments import make_parser
from mmlk.cli.errors import one_sentence

EXAMPLES = """\
  python tools/convert_checkpoint.py SLaK_tiny_checkpoint.pth checkpoints/slak_t.pth --family slak
  python tools/convert_checkpoint.py SRC DST --family slak --arch t        refuse any other variant
  python tools/convert_checkpoint.py SRC DST --family slak --ema           the averaged weights
  python tools/convert_checkpoint.py SRC DST --family slak --reverse       back to the authors' names

The result is a checkpoint of MMEngine with the keys backbone.* and head.fc.*, for load_from or for
init_cfg=dict(type='Pretrained', checkpoint=DST, prefix='backbone.').
Nothing is written unless every tensor is explained; docs/checkpoints.md says where the files are.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('source', metavar='SRC', type=Path, help='checkpoint to read')
    parser.add_argument('target', metavar='DST', type=Path, help='checkpoint to write')
    parser.add_argument('--family', required=True, choices=sorted(FAMILIES), help='whose names SRC has')
    parser.add_argument('--arch', help='variant it has to be (default: found by keys and shapes)')
    parser.add_argument('--reverse', action='store_true', help="from this project's names to the family's")
    parser.add_argument('--ema', action='store_true', help='take the averaged weights, under model_ema')
    args = parser.parse_args()
    if args.ema and args.reverse:
        parser.error('--ema is about the files of the authors, --reverse reads one of this project: give one of them')
    return args


def main() -> None:
    args = parse_args()
    with one_sentence():
        from mmlk.checkpoints.convert import convert, revert, write_checkpoint
        from mmlk.cli.conversion import conversion_rows
        from mmlk.cli.summary import print_table
        from mmlk.compat.checkpoint_loader import load_checkpoint_file
        from mmlk.errors import UsageError

        if args.target.exists() and args.source.exists() and args.target.samefile(args.source):
            raise UsageError(f'DST must be another file than SRC, got {args.target} for both')
        checkpoint = load_checkpoint_file(args.source, map_location='cpu')
        name = str(args.source)
        if args.reverse:
            conversion = revert(checkpoint, args.family, args.arch, name)
        else:
            conversion = convert(checkpoint, args.family, args.arch, args.ema, name)
        write_checkpoint(conversion.checkpoint(args.source.name), args.target)
        print_table('converted', conversion_rows(conversion, args.target))


if __name__ == '__main__':
    sys.exit(main())

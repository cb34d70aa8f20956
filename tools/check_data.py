"""Check a data set on disk: layout, number of files, classes, pictures that cannot be read. Says what to do."""

import sys
from pathlib import Path

from mmlk.cli.arguments import make_parser, positive_int
from mmlk.cli.errors import one_sentence

NAMES = ('ade20k', 'cityscapes', 'coco', 'imagenet')
SAMPLE = 100

EXAMPLES = """\
  python tools/check_data.py ade20k                        in data/ade/ADEChallengeData2016, as the configs have it
  python tools/check_data.py imagenet /data/imagenet
  python tools/check_data.py coco --all                    read every picture, not only some
  python tools/check_data.py cityscapes --classes          number and name of every class

Ends with status 0 where nothing is wrong, 1 where something is (a line each: where, what, cure), 2 on wrong usage.
docs/data.md says where the data comes from and how large it is.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('name', choices=NAMES, help='the data set')
    parser.add_argument('folder', metavar='DIR', nargs='?', type=Path, help='where it is (default: where configs say)')
    reading = parser.add_mutually_exclusive_group()
    reading.add_argument(
        '--sample', type=positive_int, metavar='N', default=SAMPLE, help=f'pictures to read of each split ({SAMPLE})'
    )
    reading.add_argument('--all', action='store_true', help='read every picture')
    parser.add_argument('--classes', action='store_true', help='only list the classes')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    with one_sentence():
        from mmlk.cli.data_check import check_with_progress, print_classes, print_report
        from mmlk.datasets.check import EXPECTED

        folder = args.folder or Path(EXPECTED[args.name].root)
        if args.classes:
            print_classes(args.name, folder)
            return 0
        report = check_with_progress(args.name, folder, None if args.all else args.sample)
        print_report(args.name, report)
        return 1 if report.problems else 0


if __name__ == '__main__':
    sys.exit(main())

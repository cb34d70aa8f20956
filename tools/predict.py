"""Predict one's own pictures with a classifier, detector or segmentor, and draw the predictions on them."""

import argparse
import sys
from pathlib import Path

from mmlk.cli.arguments import add_cfg_options, make_parser, positive_int
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/predict.py configs/ade20k/upernet_pelk_t.py CHECKPOINT street.jpg --out predicted
  python tools/predict.py CONFIG CHECKPOINT photos --out predicted         a folder, with the folders in it
  python tools/predict.py CONFIG CHECKPOINT photos --out predicted --classes person car --score-thr 0.5
  python tools/predict.py CONFIG CHECKPOINT photos --out predicted --deploy --batch-size 8

DIR gets pictures/ with the predictions drawn, predictions.json and, of a segmentor, labels/ with class indices as PNG.
A checkpoint of a --demo run wants the config that the run wrote beside it: work_dirs/NAME_demo/NAME.py.
Ends with status 0, 1 where some pictures could not be read (a line each), 2 on wrong usage.
"""


def fraction(text: str) -> float:
    """Type of an argument between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'must be a number from 0 to 1, got {text}')
    return value


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config file, or mmlk::FOLDER/NAME.py from any directory')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('source', metavar='IMAGE|DIR', type=Path, help='a picture or a folder of pictures')
    parser.add_argument('--out', required=True, metavar='DIR', type=Path, help='folder for the results')
    parser.add_argument('--deploy', action='store_true', help='fuse the model first')
    parser.add_argument('--score-thr', type=fraction, help='least score of a detected object (0.3)')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='keep only these classes, by name or index')
    parser.add_argument('--opacity', type=fraction, default=0.5, help='of masks and label maps, 0 to 1 (0.5)')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU where there is one)')
    parser.add_argument(
        '--batch-size', type=positive_int, default=1, help='pictures at once, if they are of one size (1)'
    )
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    with one_sentence(*BUILD_ERRORS):
        from mmlk.cli.predict import prepare, run

        plan = prepare(args)
    with one_sentence():
        return run(plan)


if __name__ == '__main__':
    sys.exit(main())

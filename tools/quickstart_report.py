"""Table and picture of a segmentation run on demo data."""

import sys
from pathlib import Path

from mmlk.cli.arguments import make_parser
from mmlk.cli.errors import one_sentence

EXAMPLES = """\
  python tools/quickstart_report.py work_dirs/quickstart
  python tools/quickstart_report.py work_dirs/upernet_pelk_t_demo --images 8
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('work_dir', type=Path, help='work directory of a run of tools/train.py CONFIG --demo')
    parser.add_argument('--images', type=int, default=4, help='validation images to draw (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence():
        from mmlk.cli.summary import print_table, read_summary
        from mmlk.errors import UsageError

        summary = read_summary(args.work_dir)
        if summary.checkpoint is None:
            raise UsageError(f'expected a finished run, found no checkpoint in {args.work_dir}; train first')

        from mmlk.cli.demo_report import draw_predictions, load_run_config, report_rows

        cfg = load_run_config(args.work_dir)
        picture = args.work_dir / 'predictions.png'
        draw_predictions(cfg, summary.checkpoint, args.images, picture)
        rows = report_rows(cfg, summary, args.work_dir, picture)
        print_table(f'{cfg.model.type} with {cfg.model.backbone.type} on demo data', rows)


if __name__ == '__main__':
    sys.exit(main())

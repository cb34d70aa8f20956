"""Published figures of every config: metric, parameters and FLOPs beside ours, counted now, and what was measured."""

import sys
from pathlib import Path

from mmlk.cli.arguments import make_parser
from mmlk.cli.errors import one_sentence

ROOT = Path(__file__).resolve().parents[1]

EXAMPLES = """\
  python tools/table.py                                            every row; about two minutes
  python tools/table.py --dataset ade20k                           or coco, imagenet, cityscapes
  python tools/table.py configs/ade20k/upernet_pelk_t.py           the rows of one config
  python tools/table.py --measured work_dirs                       with the results of tools/test.py found there
  python tools/table.py --dataset op                               latency of the op, with benchmarks/results/*.json
  python tools/table.py --json figures.json
  python tools/table.py --write-docs                               write docs/model_zoo.md

"ours" says how large the network of the config is, by the rule that the row's authors count by; "difference" is
relative to the published figure. A number in parentheses leads to the cause of a difference.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('configs', nargs='*', help='configs to show (default: all)')
    parser.add_argument('--dataset', help='imagenet, ade20k, cityscapes, coco or op (default: all but op)')
    parser.add_argument(
        '--measured', nargs='+', default=[], metavar='DIR', type=Path, help='work directories, or folders of them'
    )
    parser.add_argument('--markdown', action='store_true', help='print Markdown')
    parser.add_argument('--json', metavar='FILE', type=Path, help='write everything to FILE as well')
    parser.add_argument('--write-docs', action='store_true', help='write docs/model_zoo.md of the checkout')
    args = parser.parse_args()
    if args.write_docs and (args.configs or args.dataset or args.measured):
        parser.error('--write-docs writes the page of all rows without measured metrics: leave out what selects rows')
    if args.dataset == 'op' and (args.configs or args.measured):
        parser.error('--dataset op is about no config: leave out configs and --measured')
    return args


def main() -> None:
    args = parse_args()
    with one_sentence():
        from mmlk.cli.tables import json_text
        from mmlk.files import write_whole

        if args.dataset == 'op':
            from mmlk.cli.op_table import make_op_grid, op_json, read_runs

            runs = read_runs((ROOT / 'benchmarks' / 'results').glob('*.json'))
            grids, content = [make_op_grid(runs)], op_json(runs)
        else:
            from mmlk.cli.model_zoo import make_grids, make_page

            lines = collect(args)
            grids, content = make_grids(lines, links=args.markdown), [line.as_json() for line in lines]
            if args.write_docs:
                write_whole(ROOT / 'docs' / 'model_zoo.md', make_page(lines))
        if args.json is not None:
            write_whole(args.json, json_text(content))
        for grid in grids:
            print(grid.markdown()) if args.markdown else grid.print()


def collect(args):
    """The lines that were asked for, with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from mmlk.cli.measured import find_measured
    from mmlk.cli.tables import count_lines, select_rows

    rows = select_rows(args.dataset, args.configs)
    measured, ignored = find_measured(args.measured, {row.config: ROOT / row.path for row in rows})
    for sentence in ignored:
        print(f'ignored {sentence}', file=sys.stderr)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task('counting', total=len(rows))
        return count_lines(rows, ROOT, measured, lambda: progress.advance(task))


if __name__ == '__main__':
    sys.exit(main())

"""Test a model: the metrics of its config on its test set."""

import sys

from mmlk.cli.arguments import add_config_arguments, export_local_rank, make_parser
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/test.py configs/ade20k/upernet_pelk_t.py work_dirs/upernet_pelk_t/iter_160000.pth
  python tools/test.py CONFIG CHECKPOINT --deploy                  fuse the model first
  python tools/test.py CONFIG CHECKPOINT --tta                     multi-scale and flip
  python tools/test.py CONFIG CHECKPOINT --show-dir pictures       draw predictions
  python tools/test.py CONFIG CHECKPOINT --out metrics.json        or predictions.pkl
  bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--deploy', action='store_true', help='fuse the model before testing')
    parser.add_argument('--form', choices=['auto', 'dense', 'strips'], help='fused form of --deploy (default: auto)')
    parser.add_argument('--out', metavar='FILE', help='write the metrics to FILE.json, or the predictions to FILE.pkl')
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into DIR')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, as the config defines it')
    args = parser.parse_args()
    if args.form is not None and not args.deploy:
        parser.error('argument --form: it is the fused form of --deploy, which is not given')
    export_local_rank(args)
    return args


def main() -> None:
    args = parse_args()
    with one_sentence(*BUILD_ERRORS):
        from mmlk.cli.config import load_config
        from mmlk.cli.run import build_runner, drop_strategy, require_checkpoint_fits, require_file
        from mmlk.cli.testing import add_outputs, enable_deploy, enable_tta, write_metrics
        from mmlk.datasets.layout import require_data
        from mmlk.launcher import end_processes

        require_file(args.checkpoint)
        cfg = load_config(args)
        cfg.load_from = args.checkpoint
        cfg.resume = False
        drop_strategy(cfg)
        if args.tta:
            enable_tta(cfg)
        if args.deploy:
            enable_deploy(cfg, args.form or 'auto')
        add_outputs(cfg, args.out, args.show_dir)
        require_data(cfg, 'test_dataloader')
        runner = build_runner(cfg, 'test_loop')
        require_checkpoint_fits(runner, args.checkpoint)
    with one_sentence(runner=runner):
        metrics = runner.test()
        if runner.rank == 0 and args.out is not None and args.out.endswith('.json'):
            write_metrics(metrics, args.out)
        end_processes()


if __name__ == '__main__':
    sys.exit(main())

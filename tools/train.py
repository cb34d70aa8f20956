"""Train a model from a config."""

import sys

from mmlk.cli.arguments import add_config_arguments, export_local_rank, make_parser
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/train.py configs/ade20k/upernet_pelk_t.py
  python tools/train.py configs/ade20k/upernet_pelk_t.py --demo
  python tools/train.py configs/ade20k/upernet_pelk_t.py --resume
  python tools/train.py configs/ade20k/upernet_pelk_t.py --cfg-options model.backbone.init_cfg=None
  bash tools/dist_train.sh configs/ade20k/upernet_pelk_t.py 8
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='continue from PATH, or from the newest checkpoint of the work directory that can be read',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (needs a CUDA device)')
    parser.add_argument('--auto-scale-lr', action='store_true', help='fit the learning rate to the actual batch')
    parser.add_argument('--no-validate', action='store_true', help='do not validate during training')
    args = parser.parse_args()
    export_local_rank(args)
    return args


def main() -> None:
    args = parse_args()
    with one_sentence(*BUILD_ERRORS):
        from mmlk.cli.config import load_config
        from mmlk.cli.resume_checks import explain_resume
        from mmlk.cli.run import build_runner, choose_checkpoint, enable_amp, require_checkpoint_fits
        from mmlk.cli.summary import print_table, run_rows
        from mmlk.datasets.layout import require_data
        from mmlk.errors import UsageError
        from mmlk.launcher import end_processes

        cfg = load_config(args)
        if args.no_validate:
            cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        if args.amp:
            enable_amp(cfg)
        if args.auto_scale_lr:
            if 'auto_scale_lr' not in cfg:
                raise UsageError(
                    f'--auto-scale-lr needs auto_scale_lr.base_batch_size in the config, {args.config} has none'
                )
            cfg.auto_scale_lr.enable = True
        choose_checkpoint(cfg, args.resume)
        require_data(cfg, 'train_dataloader', 'val_dataloader')
        runner = build_runner(cfg, 'train_loop', 'val_loop')
        if cfg.get('resume'):
            require_checkpoint_fits(runner, cfg.load_from)
            explain_resume(runner)
    with one_sentence(interrupted='stopped; continue with the same command and --resume', runner=runner):
        runner.train()
        if runner.rank == 0:
            print_table(f'trained {args.config}', run_rows(cfg.work_dir))
        end_processes()


if __name__ == '__main__':
    sys.exit(main())

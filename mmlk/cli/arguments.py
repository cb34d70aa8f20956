"""Arguments that several tools have."""

from __future__ import annotations

import argparse
import os


def make_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose ``--help`` ends with examples."""
    return argparse.ArgumentParser(
        description=description, epilog='examples:\n' + examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The config and what changes it."""
    parser.add_argument('config', help='config file, or mmlk::FOLDER/NAME.py from any directory')
    parser.add_argument(
        '--demo', action='store_true', help='generated data and a short schedule; prints what it changes'
    )
    parser.add_argument(
        '--work-dir', help='where logs and checkpoints go (default: ./work_dirs/NAME, NAME_demo with --demo)'
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='how processes were started'
    )
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help='set by the launcher')


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Single entries of the config."""
    # Here, because the benchmark of the op runs where MMEngine is not installed.
    from mmengine.config import DictAction

    class OptionsAction(DictAction):
        """Says what is wrong with an option, where MMEngine's action fails."""

        def __call__(self, parser, namespace, values, option_string=None) -> None:
            for option in values:
                try:
                    super().__call__(parser, namespace, [option], option_string)
                except (ValueError, AssertionError, RecursionError):
                    name = option_string or '--cfg-options'
                    parser.error(f'argument {name}: expected KEY=VALUE with brackets in pairs, got {option}')

    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='set config entries; applied last, so they win over --demo: optim_wrapper.optimizer.lr=1e-3 key="[a,b]"',
    )


def export_local_rank(args: argparse.Namespace) -> None:
    """MMEngine reads the rank from the environment; torchrun sets it, older launchers pass an argument."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))


def positive_int(text: str) -> int:
    """Type of an argument that counts something."""
    value = int(text) if text.strip().isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number of 1 or more, got {text}')
    return value


def positive_float(text: str) -> float:
    """Type of an argument that measures something."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be a number above 0, got {text}')
    return value


def image_size(text: str) -> tuple[int, int]:
    """Type of an argument that is an edge, or height and width as HxW, in pixels."""
    parts = text.lower().split('x')
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f'must be an edge such as 224, or HxW such as 96x160, in pixels, got {text}')
    return int(parts[0]), int(parts[-1])

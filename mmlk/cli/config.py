"""From command line arguments to a config that is ready to run."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

from mmengine.config import Config

from mmlk.datasets.demo.demo_config import apply_demo, format_changes
from mmlk.errors import UsageError


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of ``args``, apply ``--demo``, then ``--cfg-options``, work directory and launcher.

    Raises:
        UsageError: There is no such config.
    """
    cfg = read_config(args.config)
    name = Path(args.config.split('::')[-1]).stem
    if args.demo:
        changes = apply_demo(cfg)
        print('--demo changes the config:\n' + format_changes(changes), flush=True)
        name += '_demo'
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        # A demo has a directory of its own: a real run that resumes automatically must not pick up its checkpoint.
        cfg.work_dir = str(Path('work_dirs') / name)
    return cfg


def read_config(path: str, options: dict | None = None) -> Config:
    """Read a config and set single entries of it.

    Raises:
        UsageError: There is no such config.
    """
    if '::' not in path and not Path(path).is_file():
        raise UsageError(_missing_config_message(path))
    cfg = Config.fromfile(path)
    if options:
        cfg.merge_from_dict(options)
    return cfg


def _missing_config_message(config: str) -> str:
    path = Path(config)
    folder = path.parent if path.parent.is_dir() else None
    names = [str(candidate) for candidate in folder.glob('*.py')] if folder else []
    names = names or [str(candidate) for candidate in Path('configs').glob('*/*.py') if '_base_' not in candidate.parts]
    close = difflib.get_close_matches(config, names, n=3, cutoff=0.5)
    hint = f'did you mean {" or ".join(close)}?' if close else 'ls configs/*/ lists the configs of a checkout'
    return f'expected a config file, found none at {config}; {hint}'

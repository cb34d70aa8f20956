"""From command line arguments to a config that is ready to run."""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path

from mmengine.config import Config

from mmlk.cli.sentences import sentence_of
from mmlk.datasets.demo.demo_config import apply_demo, format_changes
from mmlk.errors import UsageError
from mmlk.launcher import find_place


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of ``args``, apply ``--demo``, then ``--cfg-options``, work directory and launcher.

    Raises:
        UsageError: There is no such config, or the launcher has not started this process.
    """
    place = find_place(args.launcher)
    cfg = read_config(args.config)
    name = Path(args.config.split('::')[-1]).stem
    if args.demo:
        changes = apply_demo(cfg)
        if place is None or place.rank == 0:
            print('--demo changes the config:\n' + format_changes(changes), flush=True)
        name += '_demo'
    if args.cfg_options:
        merge_options(cfg, args.cfg_options, args.config)
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
        UsageError: There is no such config, or it cannot be read; the message names the file with the mistake.
    """
    if '::' not in path and not Path(path).is_file():
        raise UsageError(_missing_config_message(path))
    _require_no_circle(path)
    try:
        cfg = Config.fromfile(path)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        # A config is a program: it may raise anything.
        kind = f'{type(error).__name__}; MMLK_TRACEBACK=1 shows where'
        text = 'it ends the program' if isinstance(error, SystemExit) else sentence_of(error)
        raise UsageError(f'the config {_place_of(error, path)} cannot be read: {text} ({kind})') from error
    if options:
        merge_options(cfg, options, path)
    return cfg


def merge_options(cfg: Config, options: dict, path: str) -> None:
    """Set single entries of a config.

    Raises:
        UsageError: They have no place in it.
    """
    try:
        cfg.merge_from_dict(options)
    except Exception as error:
        raise UsageError(f'--cfg-options does not fit the config {path}: {sentence_of(error)}') from error


def _place_of(error: BaseException, path: str) -> str:
    """Which file of a config and its bases is no valid Python; the config itself for any other error."""
    if isinstance(error, (SyntaxError, UnicodeDecodeError)):
        seen, pending = set(), [path]
        while pending:
            file = pending.pop()
            seen.add(file)
            try:
                compile(Path(file).read_bytes().decode(), file, 'exec')
            except (SyntaxError, ValueError):
                return file
            except OSError:
                continue
            pending += [base for base in _bases_of(file) if base not in seen]
    return path


def _require_no_circle(path: str, above: tuple[str, ...] = ()) -> None:
    """Raise ``UsageError`` if a config is its own base; MMEngine would read it a thousand times before it fails."""
    if path in above:
        circle = ' -> '.join((*above[above.index(path) :], path))
        raise UsageError(f'the config {above[0]} cannot be read: _base_ leads back to where it began, {circle}')
    for base in _bases_of(path):
        _require_no_circle(base, (*above, path))


def _bases_of(path: str) -> list[str]:
    """The bases of a config that are files; none where it cannot be read, which is found out elsewhere."""
    try:
        bases = Config._get_base_files(path)
        folder = os.path.dirname(path)
        return [os.path.normpath(os.path.join(folder, base)) for base in bases if '::' not in base]
    except Exception:
        return []


def _missing_config_message(config: str) -> str:
    path = Path(config)
    folder = path.parent if path.parent.is_dir() else None
    names = [str(candidate) for candidate in folder.glob('*.py') if candidate.is_file()] if folder else []
    names = names or [str(candidate) for candidate in Path('configs').glob('*/*.py') if '_base_' not in candidate.parts]
    close = difflib.get_close_matches(config, names, n=3, cutoff=0.5)
    hint = f'did you mean {" or ".join(close)}?' if close else 'ls configs/*/ lists the configs of a checkout'
    return f'expected a config file, found none at {config}; {hint}'

"""Train, validate, resume and test every config on demo data, and keep what came out in a file.

What is run and what has to come out is in config_sweep.py. bash tests/all_configs.sh runs this in the environment of
the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

from config_sweep import (
    FULL_SIZE,
    INTERRUPT_STATUS,
    ITERATIONS,
    ROOT,
    SIZES,
    STEPS,
    config_names,
    fingerprint,
    passed,
    run_config,
    short_demo,
)

RESULTS = Path('tests', 'all_configs.json')
EXAMPLES = """\
examples:
  bash tests/all_configs.sh                            every config, about 20 minutes on 2 cores
  bash tests/all_configs.sh --resume                   those that have not passed as they are now
  bash tests/all_configs.sh coco/ imagenet/slak        those whose names contain one of these
  bash tests/all_configs.sh --list                     which there are, and in which size they run

Ends with status 1 where one of the chosen configs fails, and 2 where none is chosen.
"""


def read_results(path: Path) -> dict[str, dict]:
    """Entries of configs that still exist."""
    entries = json.loads(path.read_text())['configs'] if path.is_file() else {}
    return {name: entries[name] for name in config_names() if name in entries}


def write_results(path: Path, entries: dict[str, dict]) -> None:
    """Write the entries as JSON, and beside it as a table; both files are whole at any time."""
    import torch

    from mmlk.files import write_whole

    packages = ('torch', 'mmengine', 'mmcv-lite', 'mmsegmentation', 'mmdet', 'mmpretrain')
    versions = {'python': platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            # The other family of hosts has other names.
            continue
    content = {
        'versions': versions,
        'machine': f'{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} used',
        'configs': {name: entries[name] for name in sorted(entries)},
    }
    write_whole(path, json.dumps(content, indent=1) + '\n')
    write_whole(path.with_suffix('.md'), as_table(content))


def as_table(content: dict) -> str:
    """The result file as Markdown."""
    entries = content['configs']
    count = sum(map(passed, entries.values()))
    lines = [
        '# Every config on demo data',
        '',
        f'{count} of {len(config_names())} configs trained {ITERATIONS} iterations, validated, resumed, were tested.',
        'Written by `bash tests/all_configs.sh`. Metrics of networks that know nothing: they show that the evaluation',
        'runs. Versions: ' + ', '.join(f'{name} {version}' for name, version in content['versions'].items()) + '.',
        f'Machine: {content["machine"]}.',
        '',
        f'| config | size | {" | ".join(STEPS)} | metric (%) | seconds | error |',
        '|---|---|' + '---|' * len(STEPS) + '---|---|---|',
    ]
    for name, entry in entries.items():
        metrics = ', '.join(f'{key} {value:.2f}' for key, value in entry['metrics'].items())
        outcome = ' | '.join(entry[step] for step in STEPS)
        error = (entry['error'] or '').replace('|', r'\|')
        lines.append(f'| {name} | {entry["size"]} | {outcome} | {metrics} | {entry["seconds"]:.0f} | {error} |')
    return '\n'.join(lines) + '\n'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='bash tests/all_configs.sh',
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('words', nargs='*', metavar='WORD', help='only configs with one of these in FOLDER/NAME')
    parser.add_argument('--resume', action='store_true', help='skip what has passed and has not changed since')
    parser.add_argument('--list', action='store_true', help='print the chosen configs and their sizes, run nothing')
    parser.add_argument('--results', type=Path, default=ROOT / RESULTS, help=f'file to write (default: {RESULTS})')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/all_configs',
        help='folder for the runs, each of which is deleted at its end (default: work_dirs/all_configs)',
    )
    args = parser.parse_args()
    args.results, args.work_dir = args.results.absolute(), args.work_dir.absolute()
    args.chosen = [name for name in config_names() if not args.words or any(word in name for word in args.words)]
    if not args.chosen:
        parser.error(f'no config has one of {args.words} in its name; --list shows all')
    return args


def run_all(names: list[str], work_dir: Path, entries: dict[str, dict], results: Path) -> None:
    """Run configs, a line for each; ``entries`` and the result file are up to date after each."""
    start = time.perf_counter()
    for count, name in enumerate(names, 1):
        print(f'[{count:>2}/{len(names)}] {name:<48}', end='', flush=True)
        entry = entries[name] = run_config(name, work_dir / name)
        write_results(results, entries)
        left = (time.perf_counter() - start) / count * (len(names) - count)
        state = 'passed' if passed(entry) else f'FAILED: {entry["error"]}'
        print(f'{entry["seconds"]:5.1f} s, {left / 60:4.1f} min left  {state}', flush=True)


def main() -> int:
    args = parse_args()
    os.chdir(ROOT)
    if args.list:
        print('\n'.join(f'{name:<50} {SIZES[name in FULL_SIZE]}' for name in args.chosen))
        return 0
    import mmlk  # noqa: F401

    entries = read_results(args.results)
    done = set()
    if args.resume:
        known = [name for name in args.chosen if name in entries and passed(entries[name])]
        done = {name for name in known if entries[name]['config'] == fingerprint(name)}
    waiting = [name for name in args.chosen if name not in done]
    print(f'{len(waiting)} configs to run, {len(done)} have passed before', flush=True)
    try:
        with short_demo():
            run_all(waiting, args.work_dir, entries, args.results)
    except KeyboardInterrupt:
        print('\nstopped; continue with the same command and --resume')
        return INTERRUPT_STATUS
    failed = [name for name in args.chosen if not passed(entries[name])]
    print(f'{len(args.chosen) - len(failed)} of {len(args.chosen)} passed; {args.results} has the details')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())

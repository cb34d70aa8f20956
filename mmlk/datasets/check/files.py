"""Folders of a data set: are they there, what is in them, how many."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from mmlk.datasets.check.expected import Expected, Split
from mmlk.datasets.check.report import Report, Track, number, some
from mmlk.datasets.layout import LAYOUTS

DOCUMENTATION = 'docs/data.md says where it comes from'


def find_root(report: Report, expected: Expected, root: Path) -> bool:
    """Is there anything of a data set at its place? What is a level too deep, or too high, is named.

    Args:
        report: Gets the problems.
        expected: The data set.
        root: Where it should be.

    Returns:
        Whether it is worth looking further.
    """
    link = ' (a link that leads nowhere)' if root.is_symlink() and not root.exists() else ''
    if not root.is_dir():
        report.add(
            root,
            f'found no such folder{link}',
            f'put or link the data there, or give its folder as DIR; {DOCUMENTATION}',
        )
        return False
    tops = _top_folders(expected)
    if any((root / top).exists() for top in tops):
        return True
    try:
        inner = [
            path for path in sorted(root.iterdir()) if path.is_dir() and all((path / top).is_dir() for top in tops)
        ]
    except OSError as error:
        report.add(root, f'cannot be read ({error.strerror})', 'correct its permissions')
        return False
    if inner:
        report.add(
            root,
            f'the data is one folder deeper, in {inner[0].name}',
            f'give {inner[0]} as DIR, or type: mv {shlex.quote(str(inner[0]))}/* {shlex.quote(str(root))}',
        )
    else:
        found = some(sorted(path.name for path in root.iterdir())) or 'nothing'
        report.add(
            root, f'holds none of {", ".join(tops)}, but {found}', f'unpack the data there: {LAYOUTS[expected.kind]}'
        )
    return False


def _top_folders(expected: Expected) -> list[str]:
    """Folders directly in the root that always exist."""
    folders = [split.pictures for split in expected.splits]
    if expected.kind != 'ImageNet':
        folders += [split.labels for split in expected.splits]
    return list(dict.fromkeys(PurePosixPath(folder).parts[0] for folder in folders))


def list_files(report: Report, folder: Path, archive: str, track: Track) -> list[str] | None:
    """Names of all files below a folder, sorted, relative to it; names with a leading dot are passed over.

    Args:
        report: Gets the problem of a missing or empty folder, and of links that lead nowhere.
        folder: Where to look.
        archive: Official file that would fill it.
        track: Shows that it is not finished; how many folders there are shows at the end.

    Returns:
        The names; ``None`` if there are none.
    """
    if not folder.is_dir():
        report.add(folder, 'found no such folder', f'unpack or link {archive} there')
        return None
    files, broken = [], []
    for inner, entries in track(_scan(report, folder), f'listing {folder.name}', None):
        for entry in entries:
            (files if _is(entry.is_file) else broken).append(f'{inner}{entry.name}')
    if broken:
        report.add(
            folder,
            f'{number(len(broken), "link")} without a file behind: {some(sorted(broken))}',
            'make the links again',
        )
    if not files:
        report.add(folder, 'holds no files', f'unpack {archive} there')
        return None
    return sorted(files)


def _scan(report: Report, folder: Path) -> Iterator[tuple[str, list[os.DirEntry]]]:
    """A folder and those below it, as (path with a slash at its end, entries that are no folders)."""
    pending = ['']
    while pending:
        inner = pending.pop()
        try:
            entries = [entry for entry in os.scandir(folder / inner) if not entry.name.startswith('.')]
        except OSError as error:
            report.add(folder / inner, f'cannot be read ({error.strerror})', 'correct its permissions')
            continue
        pending += [f'{inner}{entry.name}/' for entry in entries if _is(entry.is_dir)]
        yield inner, [entry for entry in entries if not _is(entry.is_dir)]


def _is(question: Callable[[], bool]) -> bool:
    """Ask what an entry of a folder is; a link to itself is nothing."""
    try:
        return question()
    except OSError:
        return False


def check_count(report: Report, expected: Expected, split: Split, root: Path, found: int) -> None:
    """Compare a number of pictures with the published one."""
    report.rows.append((split.name, f'{number(found, "picture")}, {_origin(expected)} {split.count}'))
    if found == split.count:
        return
    cure = 'delete the folder and run a command with --demo again'
    if not expected.demo:
        cure = f'unpack {split.archives[0]} again; a part of the data trains, but not to the published figures'
        if found > split.count:
            cure = 'remove what does not belong to it: published figures are for the pictures of the archive alone'
    report.add(root / split.pictures, f'{number(found, "picture")} instead of {split.count}', cure)


def _origin(expected: Expected) -> str:
    return 'generated were' if expected.demo else 'published'


def check_suffixes(report: Report, folder: Path, names: list[str], ends: tuple[str, ...], cure: str) -> list[str]:
    """The names with one of the endings; the others are a problem."""
    # Upper and lower case matter as they do to the dataset class that reads the folder: `ends` holds what it takes.
    other = [name for name in names if not name.endswith(ends)]
    if other:
        wanted = ' or '.join(f'*{end}' for end in ends)
        verb = 'is' if len(other) == 1 else 'are'
        report.add(folder, f'{number(len(other), "file")} {verb} not named {wanted}: {some(other)}', cure)
    return [name for name in names if name.endswith(ends)]

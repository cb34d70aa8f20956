"""Pictures in a folder per class, or in a list: ImageNet."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from mmlk.datasets.check.expected import Expected, Split
from mmlk.datasets.check.files import check_count, list_files
from mmlk.datasets.check.pictures import read_pictures, take_sample
from mmlk.datasets.check.report import Report, Track, number, some

#: What mmpretrain's ``ImageNet`` takes for a picture, in lower case; it passes silently over other files.
ENDS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
#: Labels of a list: of ImageNet's classes, also where a part of them occurs.
LABELS = 1000


def check_imagenet(report: Report, expected: Expected, root: Path, sample: int | None, track: Track) -> None:
    """Check every split: class folders or list, files.

    mmpretrain numbers class folders in their order, so that a folder too few or too many shifts all that follow. A list
    in ``meta/{train,val}.txt`` is read instead of the folders where it exists.

    Args:
        report: Gets what is found.
        expected: The data set.
        root: Its folder.
        sample: Pictures of every split to read; ``None`` reads all.
        track: Shows how far it is.
    """
    folders = {}
    for split in expected.splits:
        folder, listed = root / split.pictures, root / split.labels
        names = list_files(report, folder, split.archives[0], track)
        if names is None:
            continue
        pictures = [name for name in names if name.lower().endswith(ENDS)]
        others = [name for name in names if not name.lower().endswith(ENDS)]
        archives = [name for name in others if name.endswith('.tar')]
        if archives:
            what = f'{number(len(archives), "archive")} not unpacked: {some(archives)}'
            report.add(folder, what, f'empty the folder and type: {_torchvision(root, split)}')
        if others and not archives:
            what = f'{number(len(others), "file")} other than *.JPEG: {some(others)}'
            report.add(folder, what, 'convert or remove them: they are passed over without a word')
        check_count(report, expected, split, root, len(pictures))
        if listed.is_file():
            _check_list(report, expected, listed, folder, pictures)
        else:
            folders[split.name] = _check_folders(report, expected, split, root, pictures)
        _read(report, split, folder, pictures, sample, track)
    _compare(report, root, folders)


def _check_folders(report: Report, expected: Expected, split: Split, root: Path, pictures: list[str]) -> set[str]:
    """Class folders of a split; pictures outside of them are a problem."""
    folder = root / split.pictures
    flat = [name for name in pictures if '/' not in name]
    classes = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')}
    if flat and not classes:
        cure = (
            f'move the folder away, put {split.archives[0]} and {split.archives[1]} into {root} and type: '
            f'{_torchvision(root, split)}'
        )
        report.add(folder, f'{number(len(flat), "picture")} in one folder instead of one per class', cure)
        return set()
    if flat:
        report.add(
            folder,
            f'{number(len(flat), "picture")} beside the class folders: {some(flat)}',
            'move each into the folder of its class',
        )
    if len(classes) != expected.classes:
        cure = f'unpack {split.archives[0]} again'
        if len(classes) > expected.classes:
            cure = 'remove those that are none; for classes of your own set the dataset type to CustomDataset'
        what = f'{number(len(classes), "class folder")} instead of {expected.classes}'
        report.add(folder, what, f'{cure}: classes are numbered in the order of their folders')
    empty = sorted(classes - {name.split('/')[0] for name in pictures})
    if empty:
        what = f'{number(len(empty), "class folder")} without pictures: {some(empty)}'
        report.add(folder, what, f'unpack {split.archives[0]} again')
    return classes


def _compare(report: Report, root: Path, folders: dict[str, set[str]]) -> None:
    """Both splits have to have the same class folders."""
    if len(folders) < 2 or not all(folders.values()):
        return
    (first, ours), (second, theirs) = folders.items()
    for name, other, alone in ((first, second, ours - theirs), (second, first, theirs - ours)):
        if alone:
            what = f'{number(len(alone), "class folder")} that {other} does not have: {some(sorted(alone))}'
            report.add(root / name, what, 'make both the same, or classes get different numbers in the two')


def _check_list(report: Report, expected: Expected, path: Path, folder: Path, pictures: list[str]) -> None:
    """Lines ``<picture> <class>``: the pictures have to be there, the classes have to be some."""
    wrong, entries, labels = [], [], set()
    with path.open(encoding='utf-8', errors='replace') as lines:
        for line_number, line in enumerate(lines, 1):
            name, _, label = line.strip().rpartition(' ')
            if not name or not label.isdecimal() or int(label) >= LABELS:
                wrong.append(f'line {line_number}, {line.strip()!r}')
                continue
            entries.append(name.strip())
            labels.add(int(label))
    if wrong:
        what = f'{number(len(wrong), "line")} not such as "n01440764/n01440764_18.JPEG 0": {some(wrong)}'
        report.add(path, what, f'write a picture and a class from 0 to {LABELS - 1} in every line')
    twice = [name for name, count in Counter(entries).items() if count > 1]
    if twice:
        report.add(path, f'{number(len(twice), "picture")} listed twice: {some(twice)}', 'remove the second line')
    missing = sorted(set(entries) - set(pictures))
    if missing:
        what = (
            f'{number(len(missing), "picture")} that {path.name} lists, but the folder does not hold: {some(missing)}'
        )
        report.add(folder, what, f'complete the folder, or remove {path}: without it the class folders are read')
    unlisted = sorted(set(pictures) - set(entries))
    if unlisted:
        what = f'{number(len(unlisted), "picture")} that {path.name} does not list: {some(unlisted)}'
        report.add(folder, what, f'complete or remove {path}: without it the class folders are read')
    if not wrong and len(labels) != expected.classes:
        what = f'pictures of {number(len(labels), "class", "classes")} instead of {expected.classes}'
        report.add(path, what, f'complete the list, or remove {path}: without it the class folders are read')


def _read(report: Report, split: Split, folder: Path, pictures: list[str], sample: int | None, track: Track) -> None:
    chosen = take_sample(pictures, sample)
    for _ in read_pictures(report, folder, chosen, split.archives[0], track, f'reading {split.name}'):
        pass
    report.rows.append((f'{split.name}, read', f'{len(chosen)} of {number(len(pictures), "picture")}'))


def _torchvision(root: Path, split: Split) -> str:
    """The command that unpacks and sorts an archive; it finds the class of every picture in the development kit."""
    code = f'from torchvision.datasets import ImageNet; ImageNet("{root}", "{split.name}")'
    return f'python -c {shlex.quote(code)}'

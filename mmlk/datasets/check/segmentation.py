"""Pictures with label maps: ADE20K and Cityscapes."""

from __future__ import annotations

import shlex
from pathlib import Path

from mmlk.datasets.check.expected import Expected, Split
from mmlk.datasets.check.files import check_count, check_suffixes, list_files
from mmlk.datasets.check.pictures import read_each, read_pictures, report_broken, take_sample
from mmlk.datasets.check.report import Report, Track, number, some
from mmlk.datasets.decoding import read_labels
from mmlk.datasets.layout import PAIRS

#: Labels that mean "ignored", by dataset class: 0 is no class in ADE20K, 255 none in Cityscapes.
IGNORED = {'ADE20KDataset': 0, 'CityscapesDataset': 255}
_RAW_CITYSCAPES = '_gtFine_labelIds.png'


def check_segmentation(report: Report, expected: Expected, root: Path, sample: int | None, track: Track) -> None:
    """Check every split: files, pairs, sizes and labels.

    Args:
        report: Gets what is found.
        expected: The data set.
        root: Its folder.
        sample: Pictures of every split to read; ``None`` reads all.
        track: Shows how far it is.
    """
    for split in expected.splits:
        _check_split(report, expected, split, root, sample, track)


def _check_split(
    report: Report, expected: Expected, split: Split, root: Path, sample: int | None, track: Track
) -> None:
    picture_end, label_end = PAIRS[expected.kind]
    folders = {picture_end: root / split.pictures, label_end: root / split.labels}
    files = {
        end: list_files(report, folder, split.archives[end == label_end], track) for end, folder in folders.items()
    }
    pictures, labels = (_names(report, expected, folders[end], files[end] or [], end) for end in folders)
    if files[picture_end]:
        check_count(report, expected, split, root, len(pictures))
    if not pictures or not labels:
        return
    for ours, theirs, end, folder, other in (
        (pictures, labels, picture_end, split.pictures, 'label map'),
        (labels, pictures, label_end, split.labels, 'picture'),
    ):
        alone = sorted(set(ours) - set(theirs))
        if alone:
            cure = f'unpack {split.archives[other == "label map"]} again, or remove what has no counterpart'
            report.add(root / folder, f'{number(len(alone), "file")} without a {other}, such as {alone[0]}{end}', cure)
    _read(report, expected, split, root, sorted(set(pictures) & set(labels)), sample, track)


def _names(report: Report, expected: Expected, folder: Path, files: list[str], end: str) -> list[str]:
    """Names without their ending; files that end otherwise are a problem."""
    if expected.kind == 'CityscapesDataset' and end == PAIRS[expected.kind][1]:
        # The archive has four files per picture, and none of the one that is trained with.
        raw = [name for name in files if name.endswith(_RAW_CITYSCAPES)]
        names = [name.removesuffix(end) for name in files if name.endswith(end)]
        missing = len({name.removesuffix(_RAW_CITYSCAPES) for name in raw} - set(names))
        if missing or (files and not names):
            cure = 'unpack gtFine_trainvaltest.zip there'
            if raw:
                cure = (
                    'type: pip install cityscapesscripts && '
                    f'CITYSCAPES_DATASET={shlex.quote(str(folder.parents[1]))} csCreateTrainIdLabelImgs'
                )
            report.add(folder, f'{number(missing, "label map")} *{end} not made yet' if raw else f'no *{end}', cure)
        return names
    cure = f'rename or convert to *{end}, or remove'
    return [name.removesuffix(end) for name in check_suffixes(report, folder, files, (end,), cure)]


def _read(
    report: Report, expected: Expected, split: Split, root: Path, names: list[str], sample: int | None, track: Track
) -> None:
    """Decode pairs and compare their sizes; labels have to be classes."""
    picture_end, label_end = PAIRS[expected.kind]
    first = expected.kind == 'ADE20KDataset'
    allowed = {*range(first, expected.classes + first), IGNORED[expected.kind]}
    chosen = take_sample(names, sample)
    folders = root / split.pictures, root / split.labels
    pictures = read_pictures(
        report,
        folders[0],
        [f'{name}{picture_end}' for name in chosen],
        split.archives[0],
        track,
        f'reading {split.name} pictures',
    )
    sizes = {name.removesuffix(picture_end): size for name, size in pictures}
    broken, uneven, wrong = [], [], {}
    for name, found, reason in read_each(
        lambda name: read_labels(folders[1] / f'{name}{label_end}'), chosen, track, f'reading {split.name} label maps'
    ):
        if found is None:
            broken.append(f'{name}{label_end} ({reason})')
            continue
        size, labels = found
        strange = [int(label) for label in labels if int(label) not in allowed]
        if strange:
            wrong[f'{name}{label_end}'] = strange
        if sizes.get(name, size) != size:
            uneven.append(f'{name} ({_by(sizes[name])} and {_by(size)})')
    report_broken(report, folders[1], broken, split.archives[1], 'label map')
    if wrong:
        values = sorted({label for strange in wrong.values() for label in strange})
        report.add(
            folders[1],
            f'{number(len(wrong), "label map")} with labels that are no class ({some(values)}): {some(list(wrong))}',
            f'labels are {_range(expected)}; take the label maps of {split.archives[1]}'
            + (' and make the training ids from them' if not first else ''),
        )
    if uneven:
        report.add(
            folders[1],
            f'{number(len(uneven), "label map")} of another size than the picture: {some(uneven)}',
            'resize neither of the two, or both',
        )
    report.rows.append((f'{split.name}, read', f'{len(chosen)} of {number(len(names), "pair")}'))


def _range(expected: Expected) -> str:
    """The labels that may occur, in words."""
    if expected.kind == 'ADE20KDataset':
        return f'0 (ignored) and 1 to {expected.classes}'
    return f'0 to {expected.classes - 1} and {IGNORED[expected.kind]} (ignored)'


def _by(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]}'

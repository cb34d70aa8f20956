"""Pictures with boxes and outlines: COCO."""

from __future__ import annotations

from pathlib import Path

from mmlk.datasets.check.annotations import check_annotations
from mmlk.datasets.check.expected import Expected, Split, class_names
from mmlk.datasets.check.files import check_count, list_files
from mmlk.datasets.check.pictures import read_pictures, take_sample
from mmlk.datasets.check.report import Report, Track, number, some


def check_coco(report: Report, expected: Expected, root: Path, sample: int | None, track: Track) -> None:
    """Check every split: files, annotations, what they refer to, classes.

    Args:
        report: Gets what is found.
        expected: The data set.
        root: Its folder.
        sample: Pictures of every split to read; ``None`` reads all.
        track: Shows how far it is.
    """
    for split in expected.splits:
        folder = root / split.pictures
        files = list_files(report, folder, split.archives[0], track)
        path = root / split.labels
        reading = (check_annotations(report, path, split.archives[1]) for _ in range(1))
        (content,) = track(reading, f'reading {path.name}', 1)
        if content is None:
            continue
        _check_classes(report, path, content['categories'], expected)
        report.rows.append((f'{split.name}, annotations', str(len(content['annotations']))))
        if files is not None:
            check_count(report, expected, split, root, len(files))
            _check_pictures(report, path, folder, split, content['images'], files)
            sizes = {image['file_name']: (image['width'], image['height']) for image in content['images']}
            _check_sizes(report, path, folder, split, sizes, sorted(sizes.keys() & set(files)), sample, track)


def _check_classes(report: Report, path: Path, categories: list[dict], expected: Expected) -> None:
    """The categories have to be the classes that the configs tell apart, in their order."""
    names = [str(entry['name']) for entry in categories]
    wanted = class_names('coco', expected)
    agrees = len(names) == expected.classes if wanted is None else names == list(wanted)
    if agrees:
        return
    what = f'{number(len(names), "category", "categories")} instead of {expected.classes}: {some(names)}'
    if len(names) == expected.classes:
        place = next(place for place, (ours, theirs) in enumerate(zip(names, wanted)) if ours != theirs)
        what = f'category {place + 1} is {names[place]}, not {wanted[place]}'
    report.add(
        path,
        what,
        'set metainfo.classes of every dataset to those of the file, in its order, and num_classes of every head to '
        'their number, or take the file of COCO',
    )


def _check_pictures(
    report: Report, path: Path, folder: Path, split: Split, images: list[dict], files: list[str]
) -> None:
    """Pictures that are listed have to be there, and the reverse."""
    listed = {str(image['file_name']) for image in images}
    missing = sorted(listed - set(files))
    if missing:
        what = (
            f'{number(len(missing), "picture")} that {path.name} lists {_is_or_are(missing)} missing: {some(missing)}'
        )
        report.add(folder, what, f'unpack {split.archives[0]} again')
    extra = sorted(set(files) - listed)
    if extra:
        what = f'{number(len(extra), "file")} that {path.name} does not list: {some(extra)}'
        report.add(folder, what, 'they are never read: annotate or remove them')


def _check_sizes(
    report: Report,
    path: Path,
    folder: Path,
    split: Split,
    sizes: dict[str, tuple[int, int]],
    names: list[str],
    sample: int | None,
    track: Track,
) -> None:
    """Decode pictures; the annotation file has to know their size."""
    chosen = take_sample(names, sample)
    uneven = [
        f'{name} ({size[0]} x {size[1]}, listed as {sizes[name][0]} x {sizes[name][1]})'
        for name, size in read_pictures(report, folder, chosen, split.archives[0], track, f'reading {split.name}')
        if size != sizes[name]
    ]
    if uneven:
        what = f'{number(len(uneven), "picture")} of another size than in {path.name}: {some(uneven)}'
        report.add(folder, what, 'take the pictures that were annotated: boxes are in their pixels')
    report.rows.append((f'{split.name}, read', f'{len(chosen)} of {number(len(names), "picture")}'))


def _is_or_are(items: list) -> str:
    return 'is' if len(items) == 1 else 'are'

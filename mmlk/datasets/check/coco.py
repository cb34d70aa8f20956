"""Pictures with boxes and outlines: COCO."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mmlk.datasets.check.expected import Expected, Split, class_names
from mmlk.datasets.check.files import check_count, list_files
from mmlk.datasets.check.pictures import read_pictures, take_sample
from mmlk.datasets.check.report import Report, Track, number, some

#: Keys of the entries of the three lists that mmdet and pycocotools read.
KEYS = {
    'images': {'id', 'file_name', 'height', 'width'},
    'annotations': {'id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation'},
    'categories': {'id', 'name'},
}


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
        (content,) = track((_read(report, path, split) for _ in range(1)), f'reading {path.name}', 1)
        if content is None:
            continue
        _check_references(report, path, content)
        _check_classes(report, path, content['categories'], expected)
        report.rows.append((f'{split.name}, annotations', str(len(content['annotations']))))
        if files is not None:
            check_count(report, expected, split, root, len(files))
            _check_pictures(report, path, folder, split, content['images'], files)
            sizes = {image['file_name']: (image['width'], image['height']) for image in content['images']}
            _check_sizes(report, path, folder, split, sizes, sorted(sizes.keys() & set(files)), sample, track)


def _read(report: Report, path: Path, split: Split) -> dict[str, list[dict]] | None:
    """The lists of an annotation file; ``None``, and a problem, where it is none."""
    archive = split.archives[1]
    again = f'unpack {archive} again, or fetch it again'
    if not path.is_file():
        report.add(path, 'found no such file', f'unpack {archive} there')
        return None
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        what = 'breaks off' if _is_cut(path, error) else 'is not JSON'
        report.add(path, f'{what} ({error})', again)
        return None
    lists = content if isinstance(content, dict) else {}
    for key, wanted in KEYS.items():
        entries = lists.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            report.add(path, f'has no list "{key}"', 'give a COCO instances file')
            return None
        lacking = [entry for entry in entries if not wanted <= entry.keys()]
        if lacking:
            keys = ', '.join(sorted(wanted - lacking[0].keys()))
            what = f'{len(lacking)} of {len(entries)} entries of "{key}" without {keys}'
            report.add(
                path, what, f'write all of {", ".join(sorted(wanted))}; boxes and outlines are both trained with'
            )
            return None
        references = [name for name in wanted if name.endswith('id')]
        if not all(isinstance(entry[name], (int, str)) for entry in entries for name in references):
            report.add(path, f'has ids in "{key}" that are no numbers', 'write whole numbers')
            return None
        twice = [key_id for key_id, count in Counter(entry['id'] for entry in entries).items() if count > 1]
        if twice:
            report.add(path, f'{number(len(twice), "id")} of "{key}" given twice: {some(twice)}', 'number them anew')
    return lists


def _is_cut(path: Path, error: Exception) -> bool:
    """Whether a file starts like JSON and ends early."""
    with path.open('rb') as file:
        starts = file.read(64).lstrip().startswith(b'{')
        file.seek(max(0, path.stat().st_size - 64))
        return starts and not file.read().rstrip().endswith(b'}')


def _check_references(report: Report, path: Path, content: dict[str, list[dict]]) -> None:
    """Annotations have to be of a picture and a category that are listed."""
    for key, listed, noun, cure in (
        ('image_id', 'images', 'picture', 'list the pictures, or remove their annotations'),
        ('category_id', 'categories', 'category', 'list the categories, or remove their annotations'),
    ):
        known = {entry['id'] for entry in content[listed]}
        unknown = Counter(entry[key] for entry in content['annotations'] if entry[key] not in known)
        if unknown:
            what = f'{number(sum(unknown.values()), "annotation")} of a {noun} that is not in "{listed}"'
            report.add(path, f'{what}: {some(sorted(unknown, key=str))}', cure)


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

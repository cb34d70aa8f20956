"""The annotation file of COCO by itself: is all there that mmdet and pycocotools read, and can they compute with it?"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmlk.datasets.check.report import Report, number, some
from mmlk.errors import UsageError

#: Keys of the entries of the three lists that mmdet and pycocotools read.
KEYS = {
    'images': {'id', 'file_name', 'height', 'width'},
    'annotations': {'id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation'},
    'categories': {'id', 'name'},
}

_PICTURE_PROBLEMS = ('with a "file_name" that is no name', 'without a height and width of 1 or more')
_LARGEST = 2**31
#: Pixels; more is no picture's.
LARGEST_COORDINATE = 10**6


def check_annotations(report: Report, path: Path, archive: str) -> dict[str, list[dict]] | None:
    """Check an annotation file by itself: its lists, their keys, what they refer to, boxes and outlines.

    Args:
        report: Gets the problems.
        path: The file.
        archive: Official file that holds it.

    Returns:
        Its lists; ``None``, and a problem, where it is no such file.
    """
    content = _read(report, path, archive)
    if content is not None:
        _check_references(report, path, content)
        _check_values(report, path, content)
    return content


def _read(report: Report, path: Path, archive: str) -> dict[str, list[dict]] | None:
    """The lists of an annotation file; ``None``, and a problem, where it is none."""
    again = f'unpack {archive} again, or fetch it again'
    if not path.is_file():
        report.add(path, 'found no such file', f'unpack {archive} there')
        return None
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        report.add(path, 'is nested too deeply to be read', again)
        return None
    except (ValueError, OSError, MemoryError) as error:
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


def _check_values(report: Report, path: Path, content: dict[str, list[dict]]) -> None:
    """Names and sizes of pictures, boxes and outlines have to be what mmdet and pycocotools compute with."""
    found: dict[str, list] = {}
    for image in content['images']:
        problem = _picture_problem(image)
        if problem:
            found.setdefault(problem, []).append(image['id'])
    sizes = {image['id']: (image['height'], image['width']) for image in content['images']}
    for annotation in content['annotations']:
        problem = _annotation_problem(annotation, sizes.get(annotation['image_id']))
        if problem:
            found.setdefault(problem, []).append(annotation['id'])
    for what, ids in found.items():
        noun = 'picture' if what in _PICTURE_PROBLEMS else 'annotation'
        report.add(path, f'{number(len(ids), noun)} {what}: id {some(ids)}', 'correct or remove them')


def _picture_problem(image: dict) -> str:
    if not isinstance(image['file_name'], str) or not image['file_name'] or '\0' in image['file_name']:
        return _PICTURE_PROBLEMS[0]
    if not all(is_count(image[edge]) for edge in ('height', 'width')):
        return _PICTURE_PROBLEMS[1]
    return ''


def _annotation_problem(annotation: dict, size: tuple[int, int] | None) -> str:
    box, outline = annotation['bbox'], annotation['segmentation']
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        return 'with a "bbox" that is not four finite numbers'
    if box[2] < 0 or box[3] < 0:
        return 'with a "bbox" of negative width or height'
    if not _is_finite(annotation['area']) or annotation['area'] < 0:
        return 'with an "area" that is no finite number of 0 or more'
    if annotation['iscrowd'] not in (0, 1):
        return 'with an "iscrowd" that is neither 0 nor 1'
    if isinstance(outline, list):
        whole = all(isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0 for points in outline)
        if not outline or not whole:
            return 'with a "segmentation" that is no list of polygons, x and y of three or more points each'
        return coordinate_problem(outline)
    return run_length_problem(outline, size)


def coordinate_problem(polygons: list) -> str:
    """What is wrong with the numbers of polygons; empty where nothing is.

    pycocotools takes memory for every pixel of an outline, and the process down where there is none.

    Args:
        polygons: Lists of x and y, in pixels.
    """
    values = [value for points in polygons for value in (points if isinstance(points, list) else [None])]
    if all(_is_finite(value) and abs(value) <= LARGEST_COORDINATE for value in values):
        return ''
    return f'with a "segmentation" that has more than numbers of {-LARGEST_COORDINATE} to {LARGEST_COORDINATE} in it'


def run_length_problem(outline: Any, size: tuple[int, int] | None) -> str:
    """What is wrong with a mask given by the lengths of its runs; empty where nothing is.

    pycocotools writes as many pixels as the runs have, whatever the size says, and takes the process down with it.

    Args:
        outline: The value of "segmentation".
        size: Height and width of the picture, ``None`` where they are not known.
    """
    if not isinstance(outline, dict) or not {'counts', 'size'} <= outline.keys():
        return 'with a "segmentation" that is neither a list of polygons nor run lengths ("counts", "size")'
    edges, counts = outline['size'], outline['counts']
    if not isinstance(edges, list) or len(edges) != 2 or not all(map(is_count, edges)):
        return 'with a "size" of run lengths that is not height and width'
    if size is not None and tuple(edges) != size:
        return 'with a "size" of run lengths that is not that of the picture'
    if isinstance(counts, str):
        counts = _decompressed(counts)
    if not isinstance(counts, list) or not all(is_count(count, 0) for count in counts):
        return 'with "counts" of run lengths that are neither text nor whole numbers of 0 or more'
    if sum(counts) != edges[0] * edges[1]:
        return 'with "counts" of run lengths that do not add up to the picture'
    return ''


def _decompressed(text: str) -> list[int] | None:
    """Lengths of runs from the text that COCO's tools write; ``None`` where it is none.

    Every character has five bits, the sixth says that more follow; from the fourth run on, differences to the last but
    one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return None if shift else counts


def _is_finite(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    # Coordinates are pixels: what a 32-bit number cannot hold is no coordinate, and overflows in C.
    return abs(value) < _LARGEST


def is_count(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number that C can hold, of at least so many."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < _LARGEST


def require_sound_annotations(cfg: Config, name: str) -> None:
    """Raise if something is wrong in the annotation file of a COCO dataset; reads all of it.

    Args:
        cfg: Config with the dataloader.
        name: Key of the dataloader; of another kind of dataset nothing is asked.

    Raises:
        UsageError: Says what is wrong with the file, and what to do.
    """
    dataset = (cfg.get(name) or {}).get('dataset')
    while isinstance(dataset, dict) and 'dataset' in dataset:
        dataset = dataset['dataset']
    if not isinstance(dataset, dict) or not str(dataset.get('type', '')).endswith('CocoDataset'):
        return
    path = Path(dataset.get('data_root') or '') / (dataset.get('ann_file') or '')
    report = Report()
    check_annotations(report, path, 'the archive of annotations')
    if report.problems:
        raise UsageError(f'{name} cannot be used: {report.problems[0]}')

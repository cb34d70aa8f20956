"""Write demo scenes to disk in the layout of COCO, so that ``CocoDataset`` reads them like the real thing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from mmlk.datasets.demo import objects
from mmlk.datasets.demo.folder import make_folder, scene_seed, write_photograph
from mmlk.datasets.demo.painting import SUPERSAMPLING
from mmlk.datasets.demo.scenes import Scene, Thing, render_scene

# Goes up with every change of the pictures or annotations.
GENERATOR_VERSION = 1
LAYOUT = 'coco'

#: Category id -> name, by label of the scene; like COCO's, the ids have gaps.
CATEGORIES = {
    objects.BUILDING: 'building',
    objects.TREE: 'tree',
    objects.CAR: 'car',
    objects.BOAT: 'boat',
    objects.TOWER: 'tower',
    objects.SHIP: 'ship',
}
CLASSES = tuple(CATEGORIES.values())

_SPLITS = {'training': 'train2017', 'validation': 'val2017'}
#: Of so many pictures, two (one per far cue) have their trees annotated together, as a crowd.
CROWD_PERIOD = 8
#: Pixels. What is seen of a thing is at least so large, and so is every polygon.
MIN_THING, MIN_POLYGON = 16, 4


def generate_coco(
    root: str | Path, *, num_train: int = 240, num_val: int = 40, size: int = 128, seed: int = 0, progress: bool = True
) -> Path:
    """Generate demo data, or find it where an earlier call left it.

    Args:
        root: Where to put it; created if missing.
        num_train: Pictures in ``train2017``.
        num_val: Pictures in ``val2017``.
        size: Side of every picture in pixels.
        seed: Decides every picture, non-negative.
        progress: Whether to draw a progress bar on the terminal.

    Returns:
        The ``coco`` folder, to be used as ``data_root``.

    Raises:
        UsageError: A parameter is out of range, ``root`` cannot be written, the disk is full, or the folder found there
            has lost files.
    """
    stamp = dict(
        generator='coco', version=GENERATOR_VERSION, num_train=num_train, num_val=num_val, size=size, seed=seed
    )
    splits = {'training': num_train, 'validation': num_val}
    counts = {'annotations/instances_*.json': len(splits)}
    counts |= {f'{_SPLITS[split]}/*.jpg': count for split, count in splits.items()}

    def write(folder: Path) -> None:
        (folder / 'annotations').mkdir()
        jobs = [(split, index) for split, count in splits.items() for index in range(count)]
        files = {split: _empty_file() for split in splits}
        for split in splits:
            (folder / _SPLITS[split]).mkdir()
        for split, index in track(jobs, description='Generating demo data', disable=not progress, transient=True):
            scene = render_scene(scene_seed(seed, split, index), size, far_cue=index % 2)
            image_id = list(splits).index(split) * num_train + index + 1
            name = f'{image_id:012d}.jpg'
            write_photograph(folder / _SPLITS[split] / name, scene.image)
            files[split]['images'].append(
                dict(id=image_id, file_name=name, height=size, width=size, license=1, date_captured='2026-11-22')
            )
            files[split]['annotations'] += annotate(scene, image_id, crowd=index % CROWD_PERIOD >= CROWD_PERIOD - 2)
        for split, content in files.items():
            path = folder / 'annotations' / f'instances_{_SPLITS[split]}.json'
            path.write_text(json.dumps(content) + '\n', encoding='utf-8')

    return make_folder(root, LAYOUT, stamp, write, counts)


def _empty_file() -> dict:
    return dict(
        info=dict(description='Demo scenes in the layout of COCO', version=str(GENERATOR_VERSION), year=2026),
        licenses=[dict(id=1, name='Apache License 2.0', url='https://www.apache.org/licenses/LICENSE-2.0')],
        images=[],
        annotations=[],
        categories=[dict(id=key, name=name, supercategory='demo') for key, name in CATEGORIES.items()],
    )


def annotate(scene: Scene, image_id: int, crowd: bool = False) -> list[dict]:
    """Annotate the things of a scene as COCO does: polygons for each, RLE for crowds.

    Args:
        scene: The scene.
        image_id: Id of its picture, positive.
        crowd: Annotate the trees together, as one crowd.

    Returns:
        Annotations with all keys of COCO; ``bbox`` is (x, y, width, height), all lengths are in pixels.
    """
    annotations = []
    trees = [thing.mask for thing in scene.things if thing.class_id == objects.TREE]
    for thing in scene.things:
        if crowd and thing.class_id == objects.TREE:
            continue
        if thing.mask.sum() >= MIN_THING * SUPERSAMPLING**2:
            annotations.append(_annotate_thing(thing))
    if crowd and trees:
        annotations.append(_annotate_crowd(objects.TREE, _reduce(np.logical_or.reduce(trees))))
    for number, annotation in enumerate(annotations, 1):
        # A scene has 7 things.
        annotation.update(id=10 * image_id + number, image_id=image_id)
    return annotations


def _annotate_thing(thing: Thing) -> dict:
    """Trace the outline. Holes are filled, because COCO's polygons have none."""
    outlines, _ = cv2.findContours(thing.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # Contours run through the centres of samples; half a sample outwards is lost, which is a sixth of a pixel.
    outlines = [(outline[:, 0, :] + 0.5) / SUPERSAMPLING for outline in outlines if len(outline) >= 3]
    areas = [_area(outline) for outline in outlines]
    kept = [outline for outline, area in zip(outlines, areas) if area >= MIN_POLYGON]
    kept = kept or [outlines[int(np.argmax(areas))]]
    points = np.concatenate(kept)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return dict(
        category_id=thing.class_id,
        iscrowd=0,
        segmentation=[[round(float(value), 2) for value in outline.ravel()] for outline in kept],
        area=round(sum(map(_area, kept)), 2),
        bbox=[round(float(value), 2) for value in (left, top, right - left, bottom - top)],
    )


def _annotate_crowd(category_id: int, mask: NDArray[np.bool_]) -> dict:
    """Encode a mask (H, W) by the lengths of its runs, down the columns, zeros first."""
    column_wise = mask.ravel(order='F').astype(np.int8)
    starts = np.flatnonzero(np.diff(column_wise, prepend=0))
    counts = np.diff(np.concatenate([[0], starts, [column_wise.size]]))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return dict(
        category_id=category_id,
        iscrowd=1,
        segmentation=dict(counts=[int(count) for count in counts], size=list(mask.shape)),
        area=int(mask.sum()),
        bbox=[left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
    )


def _area(outline: NDArray) -> float:
    """Area inside a polygon (N, 2)."""
    return float(cv2.contourArea(outline.astype(np.float32)))


def _reduce(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of which more than half is in a mask of samples."""
    side = len(mask) // SUPERSAMPLING
    covered = mask.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).sum(axis=(1, 3))
    return covered > SUPERSAMPLING**2 // 2

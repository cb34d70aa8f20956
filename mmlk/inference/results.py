"""What is kept of predictions: a drawn picture each, and one JSON file of all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import VISUALIZERS
from mmengine.structures import PixelData
from pycocotools import mask as coco_mask

from mmlk.errors import UsageError
from mmlk.inference.pictures import WRITTEN, Picture, PictureError, output_names, write_file, write_picture
from mmlk.inference.predictor import Predictor

JSON_NAME = 'predictions.json'
PICTURES, LABELS = 'pictures', 'labels'

#: How many classes are kept of a classified picture.
TOP = 5

#: Pictures whose short edge is smaller are drawn enlarged, or names would cover them, by this factor at most.
SMALL_EDGE, LARGEST_FACTOR = 480, 8

#: Pictures whose long edge is larger are drawn reduced: visualisers take minutes and gigabytes for those of cameras.
LARGE_EDGE = 2000

_PNG = frozenset({'.png'})


@dataclass(frozen=True)
class Options:
    """What is kept and how it is drawn.

    Attributes:
        labels: Indices of the classes to keep, ``None`` for all.
        score_thr: Least score of a detected object.
        opacity: Of masks and label maps, 0 to 1.
    """

    labels: Sequence[int] | None = None
    score_thr: float = 0.3
    opacity: float = 0.5


@dataclass(frozen=True)
class Zoom:
    """How much larger or smaller than the picture it is drawn.

    Attributes:
        up: It is enlarged so many times.
        down: It is reduced so many times.
    """

    up: int = 1
    down: int = 1

    @classmethod
    def of(cls, height: int, width: int) -> Zoom:
        """That of a picture of this size in pixels."""
        short, long = sorted((height, width))
        up = min(LARGEST_FACTOR, -(-SMALL_EDGE // short), LARGE_EDGE // long)
        return cls(max(1, up), -(-long // LARGE_EDGE))

    def picture(self, image: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3), drawn at this size."""
        height, width = (-(-edge // self.down) * self.up for edge in image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if self.down > 1 else cv2.INTER_LINEAR)

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels or masks (..., H, W) of a picture of this size."""
        return labels[..., :: self.down, :: self.down].repeat(self.up, -2).repeat(self.up, -1)


@dataclass
class Results:
    """Predictions in a folder: ``pictures/``, the JSON file and, of a segmentor, ``labels/``.

    A subclass describes and draws what its task predicts.

    Args:
        predictor: Where the predictions come from.
        names: Names of all pictures.
        out: The folder.
        options: What is kept and how it is drawn.
        source: What the JSON file says about where the predictions come from.
    """

    predictor: Predictor
    names: Sequence[str]
    out: Path
    options: Options = Options()
    source: dict[str, Any] = field(default_factory=dict)

    #: Type of the host's visualiser.
    visualizer_type = ''

    def __post_init__(self) -> None:
        self.drawn = {name: f'{PICTURES}/{output}' for name, output in output_names(self.names, WRITTEN).items()}
        self.visualizer = VISUALIZERS.get(self.visualizer_type)(name='mmlk_predict', **self.visualizer_options())
        self.records: list[dict[str, Any]] = []

    def visualizer_options(self) -> dict[str, Any]:
        """Further arguments of the visualiser."""
        return {}

    def files(self) -> list[Path]:
        """Every file that will be written."""
        return [self.out / name for name in (JSON_NAME, *self.drawn.values())]

    def add(self, picture: Picture, sample: Any) -> None:
        """Note a prediction and draw it.

        Args:
            picture: The picture.
            sample: The host's data sample, on the CPU.

        Raises:
            PictureError: The model predicted nothing that can be written.
            UsageError: A file cannot be written, or the sample holds no prediction of this task.
        """
        height, width = picture.image.shape[:2]
        record = dict(file=picture.name, drawn=self.drawn[picture.name], width=width, height=height)
        record |= self.describe(picture, sample)
        zoom = Zoom.of(height, width)
        drawn = self.draw(zoom.picture(cv2.cvtColor(picture.image, cv2.COLOR_BGR2RGB)), sample, zoom)
        write_picture(self.out / record['drawn'], np.ascontiguousarray(drawn[..., ::-1]))
        self.records.append(record)

    def write(self) -> Path:
        """Write the JSON file and return where it is."""
        path = self.out / JSON_NAME
        write_file(path, (json.dumps(self.content(), indent=1, allow_nan=False) + '\n').encode())
        return path

    def content(self) -> dict[str, Any]:
        """What the JSON file holds."""
        return dict(**self.source, task=self.predictor.task, predictions=self.records)

    def describe(self, picture: Picture, sample: Any) -> dict[str, Any]:
        """The prediction as JSON holds it."""
        raise NotImplementedError

    def draw(self, image: np.ndarray, sample: Any, zoom: Zoom) -> np.ndarray:
        """The picture (H, W, 3), RGB, with the prediction drawn on it; it comes in the size of ``zoom``."""
        raise NotImplementedError

    def keeps(self, label: int) -> bool:
        """Is this class wanted?"""
        return self.options.labels is None or label in self.options.labels


class ClassificationResults(Results):
    """The five most probable classes of each picture."""

    visualizer_type = 'mmpretrain.UniversalVisualizer'

    def describe(self, picture: Picture, sample: Any) -> dict[str, Any]:
        if not _prediction(sample, 'pred_score').isfinite().all():
            raise PictureError(
                f'{picture.path}: the scores are no numbers; the weights may be those of a failed training'
            )
        name = self.predictor.name_of
        return dict(top=[dict(label=label, name=name(label), score=score) for label, score in self._top(sample)])

    def draw(self, image: np.ndarray, sample: Any, zoom: Zoom) -> np.ndarray:
        top = [label for label, _ in self._top(sample)]
        sample.set_pred_label(top)
        names = {label: self.predictor.name_of(label).split(',')[0].strip() for label in top}
        # As the visualiser writes its widest line; a character of its font is 0.6 times as wide as high.
        columns = max(len(f'Prediction: {label}, 0.00 ({name})') for label, name in names.items())
        points = 72 / self.visualizer.dpi
        usual = 7 * min(max(min(image.shape[:2]) / 224, 0.3), 3.0)
        width = 0.92 * image.shape[1] * points / (0.6 * columns)
        height = 0.92 * image.shape[0] * points / (1.2 * len(top) + 1)
        size = max(1.0, min(usual, width, height))
        return self.visualizer.visualize_cls(image, sample, names, draw_gt=False, text_cfg=dict(size=size))

    def _top(self, sample: Any) -> list[tuple[int, float]]:
        """The most probable classes and their scores."""
        scores = _prediction(sample, 'pred_score').tolist()
        kept = [label for label in range(len(scores)) if self.keeps(label)]
        return [(label, scores[label]) for label in sorted(kept, key=lambda label: -scores[label])[:TOP]]


class DetectionResults(Results):
    """Boxes, masks where the detector has them, and scores, in the format of COCO's annotations."""

    visualizer_type = 'mmdet.DetLocalVisualizer'

    def __post_init__(self) -> None:
        super().__post_init__()
        self.annotations: list[dict[str, Any]] = []

    def visualizer_options(self) -> dict[str, Any]:
        return dict(alpha=self.options.opacity)

    def describe(self, picture: Picture, sample: Any) -> dict[str, Any]:
        instances = self._kept(sample)
        image_id = len(self.records)
        masks = instances.masks.numpy() if 'masks' in instances else [None] * len(instances)
        for box, label, score, mask in zip(
            instances.bboxes.tolist(), instances.labels.tolist(), instances.scores.tolist(), masks, strict=True
        ):
            left, top, right, bottom = box
            size = right - left, bottom - top
            annotation = dict(
                id=len(self.annotations) + 1, image_id=image_id, category_id=label, bbox=[left, top, *size],
                area=size[0] * size[1], score=score, iscrowd=0,
            )  # fmt: skip
            if mask is not None:
                encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
                annotation['area'] = float(coco_mask.area(encoded))
                annotation['segmentation'] = dict(size=encoded['size'], counts=encoded['counts'].decode())
            self.annotations.append(annotation)
        return dict(id=image_id)

    def draw(self, image: np.ndarray, sample: Any, zoom: Zoom) -> np.ndarray:
        instances = self._kept(sample)
        labels = instances.labels.tolist()
        instances.label_names = [self.predictor.name_of(label) for label in labels]
        palette = self.predictor.palette
        known = palette is not None and max(labels, default=0) < len(palette)
        self.visualizer.dataset_meta = dict(palette=palette if known else 'random')
        instances.bboxes = instances.bboxes * (zoom.up / zoom.down)
        if 'masks' in instances:
            instances.masks = torch.from_numpy(zoom.labels(instances.masks.numpy()))
        sample.pred_instances = instances
        # All that is left is to be drawn; the visualiser takes what is above its threshold.
        self.visualizer.add_datasample('', image, sample, draw_gt=False, pred_score_thr=-1.0)
        return self.visualizer.get_image()

    def content(self) -> dict[str, Any]:
        images = [dict(record, file_name=record['file']) for record in self.records]
        for image in images:
            del image['file']
        labels = sorted({*range(len(self.predictor.classes)), *(one['category_id'] for one in self.annotations)})
        categories = [dict(id=label, name=self.predictor.name_of(label)) for label in labels]
        info = dict(**self.source, task=self.predictor.task, score_thr=self.options.score_thr)
        return dict(info=info, images=images, categories=categories, annotations=self.annotations)

    def _kept(self, sample: Any) -> Any:
        instances = _prediction(sample, 'pred_instances')
        keep = instances.scores >= self.options.score_thr
        if self.options.labels is not None:
            keep &= sum((instances.labels == label for label in self.options.labels), keep & False).bool()
        return instances[keep]


class SegmentationResults(Results):
    """A label map as PNG, and the share of the picture that each class covers."""

    visualizer_type = 'mmseg.SegLocalVisualizer'

    def __post_init__(self) -> None:
        super().__post_init__()
        self.maps = {name: f'{LABELS}/{output}' for name, output in output_names(self.names, _PNG).items()}

    def visualizer_options(self) -> dict[str, Any]:
        return dict(alpha=self.options.opacity)

    def files(self) -> list[Path]:
        return [*super().files(), *(self.out / name for name in self.maps.values())]

    def describe(self, picture: Picture, sample: Any) -> dict[str, Any]:
        labels = _label_map(sample)
        path = self.maps[picture.name]
        write_picture(self.out / path, labels.astype(np.uint8 if labels.max() < 256 else np.uint16))
        counts = np.bincount(labels.ravel())
        order = [int(label) for label in np.argsort(-counts, kind='stable') if counts[label] and self.keeps(int(label))]
        classes = [
            dict(label=label, name=self.predictor.name_of(label), share=float(counts[label] / labels.size))
            for label in order
        ]
        return dict(label_map=path, classes=classes)

    def draw(self, image: np.ndarray, sample: Any, zoom: Zoom) -> np.ndarray:
        labels = zoom.labels(_label_map(sample))
        number = max(int(labels.max()) + 1, len(self.predictor.classes))
        palette = self.predictor.palette
        if palette is None or len(palette) < number:
            palette = np.random.default_rng(0).integers(0, 256, (number, 3)).tolist()
        names = [self.predictor.name_of(label) for label in range(number)]
        self.visualizer.set_dataset_meta(classes=names, palette=palette)
        # The visualiser's own labels are blended with the picture, and finding a place for them sorts every pixel in a
        # list: seconds where this takes milliseconds.
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(labels)[None])
        self.visualizer.add_datasample('', image, sample, draw_gt=False, with_labels=False)
        coloured = self.visualizer.get_image()
        shown = [int(label) for label in np.unique(labels) if self.keeps(int(label))]
        kept = np.isin(labels, shown)
        self.visualizer.set_image(np.where(kept[..., None], coloured, image))
        self._write_names(labels, shown, names)
        return self.visualizer.get_image()

    def _write_names(self, labels: np.ndarray, shown: Sequence[int], names: Sequence[str]) -> None:
        """Write the name of a class on its largest area, if that is not too small to be hit."""
        size = max(7.0, min(labels.shape) / 45)
        for label in shown:
            _, _, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=8)
            left, top, width, height, area = stats[1:][np.argmax(stats[1:, -1])]
            if area < 0.004 * labels.size:
                continue
            part = (labels[top : top + height, left : left + width] == label).astype(np.uint8)
            # The pixel farthest from every border: of a bent area the centre may lie outside.
            inside = cv2.distanceTransform(np.pad(part, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
            row, column = np.unravel_index(np.argmax(inside), inside.shape)
            self.visualizer.draw_texts(
                names[label],
                np.array([[left + column, top + row]]),
                font_sizes=size,
                colors='w',
                horizontal_alignments='center',
                vertical_alignments='center',
                bboxes=dict(facecolor='black', alpha=0.6, pad=0.15 * size, edgecolor='none'),
            )


def make_results(predictor: Predictor, *args: Any, **kwargs: Any) -> Results:
    """The :class:`Results` of a predictor's task."""
    kinds = dict(classification=ClassificationResults, detection=DetectionResults, segmentation=SegmentationResults)
    return kinds[predictor.task](predictor, *args, **kwargs)


def _prediction(sample: Any, name: str) -> Any:
    if name not in sample:
        raise UsageError(
            f'expected a model that predicts {name}, this one predicts {", ".join(sample.keys()) or "nothing"}; '
            'draw its predictions with tools/test.py --show-dir'
        )
    return getattr(sample, name)


def _label_map(sample: Any) -> np.ndarray:
    """Class index of every pixel (H, W)."""
    return _prediction(sample, 'pred_sem_seg').data[0].numpy()

"""Name the files of a sample that cannot be used, in every loop and in the workers of a DataLoader.

What reads and transforms a picture raises what it comes across, mostly without a path: the names are known where a
pipeline is called with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from PIL import Image

from mmlk.datasets.check.annotations import coordinate_problem, is_count, run_length_problem
from mmlk.datasets.decoding import read_labels, read_size
from mmlk.errors import UsageError

#: Keys of a sample with paths, and what is there.
FILES = {'img_path': 'picture', 'seg_map_path': 'label map'}

#: Some say what is wrong with a file in several lines, or give the whole array.
LONGEST_REASON = 200


class SampleError(UsageError):
    """Raised where a sample of a data set cannot be used; the message names its files."""


class NamedPipeline(Compose):
    """A pipeline that says which files it could not use, and checks that labels are classes and boxes numbers.

    Args:
        transforms: Transforms, built.
        loader: Key of the dataloader in the config, for the message.
        labels: Number of classes and the label that is ignored, where the data set has label maps.
        annotations: File with the annotations of the data set, if there is one.
    """

    def __init__(
        self,
        transforms: Sequence,
        loader: str,
        labels: tuple[int, int] | None = None,
        annotations: str | None = None,
    ) -> None:
        super().__init__(transforms)
        self.loader = loader
        self.labels = labels
        self.annotations = annotations

    def __call__(self, data: dict) -> dict | None:
        """Apply the transforms.

        Raises:
            SampleError: One of them failed, or what came out cannot be trained with; names the files of the sample.
        """
        # Transforms may take the paths out.
        files = {noun: str(data[key]) for key, noun in FILES.items() if data.get(key)} if _is_mapping(data) else {}
        try:
            problem = self._annotation_problem(data)
            result = None if problem else super().__call__(data)
            problem = problem or self._problem(result, files)
        except SampleError:
            raise
        except Exception as error:
            raise SampleError(self._sentence(files, error)) from error
        if problem:
            raise SampleError(f'{self.loader} cannot use {_listed(files)}: {problem}')
        return result

    def _sentence(self, files: Mapping[str, str], error: Exception) -> str:
        for noun, path in files.items():
            reason = _damage(noun, path)
            if reason:
                return (
                    f'{self.loader} cannot use the {noun} {path}: {reason}; replace it, or remove it with what belongs '
                    'to it; tools/check_data.py --all finds every such file'
                )
        reason = ' '.join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        source = f', annotated in {self.annotations}' if self.annotations else ''
        return (
            f'{self.loader} cannot use {_listed(files)}{source}: its pipeline fails ({type(error).__name__}: '
            f'{reason}); correct what belongs to this sample, or the pipeline if every sample fails'
        )

    def _annotation_problem(self, data: Any) -> str:
        """What is wrong with sizes and masks that are decoded in C, which checks nothing."""
        source = self.annotations or 'the annotations'
        for edge in ('height', 'width'):
            if _is_mapping(data) and edge in data and not is_count(data[edge]):
                return f'its {edge} is {data[edge]!r} in {source}, expected pixels; correct it there'
        for instance in data.get('instances') or () if _is_mapping(data) else ():
            mask = instance.get('mask') if _is_mapping(instance) else None
            problem = ''
            if isinstance(mask, dict):
                problem = run_length_problem(mask, (data.get('height'), data.get('width')))
            elif isinstance(mask, list):
                problem = coordinate_problem(mask)
            if problem:
                return f'it has an annotation {problem}; correct it in {source}'
        return ''

    def _problem(self, result: Any, files: Mapping[str, str]) -> str:
        """What is wrong with what came out of the pipeline."""
        samples = result.get('data_samples') if _is_mapping(result) else None
        # Test-time augmentation gives one sample per view.
        for sample in samples if isinstance(samples, (list, tuple)) else [samples]:
            problem = self._sample_problem(sample, files) if isinstance(sample, BaseDataElement) else ''
            if problem:
                return problem
        return ''

    def _sample_problem(self, sample: BaseDataElement, files: Mapping[str, str]) -> str:
        if self.labels is not None and 'gt_sem_seg' in sample:
            path = sample.metainfo.get('seg_map_path') or files.get('label map')
            return _label_map_problem(path, sample.metainfo.get('ori_shape')) or (
                self._label_problem(sample.gt_sem_seg.data, *self.labels)
            )
        boxes = getattr(sample.get('gt_instances'), 'bboxes', None)
        boxes = getattr(boxes, 'tensor', boxes)
        if torch.is_tensor(boxes) and not torch.isfinite(boxes).all():
            return f'a box is no number (NaN or infinite); correct it in {self.annotations or "the annotations"}'
        return ''

    def _label_problem(self, labels: torch.Tensor, classes: int, ignored: int) -> str:
        # Maps are of 8 bits, so no label is negative.
        wrong = (labels >= classes) & (labels != ignored)
        if wrong.any():
            return (
                f'label {int(labels[wrong][0])} after loading, expected 0 to {classes - 1} and {ignored} for what is '
                'ignored; correct the label map, or set metainfo.classes of the datasets and num_classes of the heads'
            )
        return ''


def name_samples(dataset: Any, loader: str) -> None:
    """Let the pipelines of a data set, and of those it consists of, name the files that they cannot use.

    Args:
        dataset: A built data set of any host; one without a pipeline of MMEngine is left as it is.
        loader: Key of its dataloader in the config.
    """
    for one in _innermost(dataset):
        pipeline = getattr(one, 'pipeline', None)
        if type(pipeline) is Compose:
            annotations = getattr(one, 'ann_file', '') or ''
            one.pipeline = NamedPipeline(
                pipeline.transforms, loader, _labels(one), annotations if _is_file(annotations) else None
            )


def _innermost(dataset: Any) -> Iterator[Any]:
    """A data set and those that it repeats, joins or mixes."""
    yield dataset
    inner = [getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or [])]
    for one in inner:
        if one is not None:
            yield from _innermost(one)


def _labels(dataset: Any) -> tuple[int, int] | None:
    """Number of classes and ignored label of a data set of mmseg."""
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if not hasattr(dataset, 'seg_map_suffix') or not classes:
        return None
    return len(classes), int(getattr(dataset, 'ignore_index', 255))


def _label_map_problem(path: str | None, size: tuple[int, int] | None) -> str:
    """What a label map file has that does not show after resizing and cutting to 8 bits; reads its head only.

    Args:
        path: The file.
        size: Height and width of the picture, as it was read.
    """
    if not path or '://' in path:
        return ''
    with Image.open(path) as image:
        if size is not None and image.size != tuple(size[1::-1]):
            return (
                f'the label map has {image.width} x {image.height} pixels, the picture {size[1]} x {size[0]}; resize '
                'neither of the two, or both'
            )
        deep = image.mode not in ('1', 'L', 'P') and int(np.max(image)) > 255
    return 'the label map has labels above 255, of which 8 bits would be kept; correct it' if deep else ''


def _damage(noun: str, path: str) -> str:
    """What is wrong with a file, empty where it can be read."""
    if '://' in path:
        return ''
    if os.path.islink(path) and not os.path.exists(path):
        return 'is a link that leads nowhere'
    if not os.path.exists(path):
        return 'there is no such file'
    if os.path.isdir(path):
        return 'is a folder'
    if not os.path.getsize(path):
        return 'is empty'
    try:
        (read_labels if noun == 'label map' else read_size)(path)
    except Exception as error:  # decoders raise anything on a broken file
        reason = ' '.join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        return f'cannot be decoded ({reason})'
    return ''


def _listed(files: Mapping[str, str]) -> str:
    return ' and '.join(f'the {noun} {path}' for noun, path in files.items()) or 'a sample'


def _is_mapping(data: Any) -> bool:
    return isinstance(data, Mapping)


def _is_file(path: Any) -> bool:
    return isinstance(path, (str, os.PathLike)) and os.path.isfile(path)

"""Random images with annotations, as the data set of a host toolbox would give them."""

from __future__ import annotations

from mmengine.config import ConfigDict
from torch import Tensor, randint, zeros

from mmlk.errors import UsageError

HOSTS = ('mmseg', 'mmdet', 'mmpretrain')
#: Objects per image of a detection batch.
OBJECTS = 4


def make_data(host: str, model: ConfigDict, batch_size: int, image_size: tuple[int, int]) -> dict:
    """A batch as a data loader collates it, before the model's data preprocessor.

    Args:
        host: ``'mmseg'``, ``'mmdet'`` or ``'mmpretrain'``.
        model: Config of the model, which says how many classes there are.
        batch_size: Images.
        image_size: (H, W) in pixels.

    Returns:
        ``inputs``, a list of uint8 images (3, H, W), and ``data_samples`` of the host.
    """
    make_sample = {'mmseg': _segmentation, 'mmdet': _detection, 'mmpretrain': _classification}[host]
    classes = _count_classes(model)
    images = [randint(256, (3, *image_size)).byte() for _ in range(batch_size)]
    return {'inputs': images, 'data_samples': [make_sample(classes, image_size) for _ in images]}


def _count_classes(model: ConfigDict) -> int:
    """``num_classes`` of the head that makes the final prediction."""
    for path in ('decode_head', 'head', 'bbox_head', 'roi_head.bbox_head'):
        head = model
        for name in path.split('.'):
            head = head.get(name) if isinstance(head, dict) else None
        head = head[-1] if isinstance(head, (list, tuple)) else head
        if isinstance(head, dict) and 'num_classes' in head:
            return head['num_classes']
    raise UsageError(
        'expected num_classes in decode_head, head, bbox_head or roi_head.bbox_head of the model, found it in none of '
        'them; measure the backbone alone with --backbone-only'
    )


def _metainfo(size: tuple[int, int]) -> dict:
    return {
        'img_shape': size,
        'ori_shape': size,
        'pad_shape': size,
        'batch_input_shape': size,
        'scale_factor': (1.0, 1.0),
        'flip': False,
    }


def _segmentation(classes: int, size: tuple[int, int]):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    return SegDataSample(metainfo=_metainfo(size), gt_sem_seg=PixelData(data=randint(classes, (1, *size))))


def _classification(classes: int, size: tuple[int, int]):
    from mmpretrain.structures import DataSample

    return DataSample(metainfo=_metainfo(size)).set_gt_label(int(randint(classes, ())))


def _detection(classes: int, size: tuple[int, int]):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    boxes = _boxes(size)
    masks = zeros(OBJECTS, *size).byte()
    for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    instances = InstanceData(bboxes=boxes, labels=randint(classes, (OBJECTS,)), masks=BitmapMasks(masks.numpy(), *size))
    return DetDataSample(metainfo=_metainfo(size), gt_instances=instances, ignored_instances=_no_instances(boxes))


def _no_instances(boxes: Tensor):
    from mmengine.structures import InstanceData

    return InstanceData(bboxes=boxes[:0], labels=boxes.new_zeros(0).long())


def _boxes(size: tuple[int, int]) -> Tensor:
    """Boxes (left, top, right, bottom) with edges of a quarter to a half of the image."""
    height, width = size
    boxes = zeros(OBJECTS, 4)
    for box in boxes:
        h, w = (int(randint(edge // 4, edge // 2 + 1, ())) for edge in (height, width))
        top, left = (int(randint(edge - length + 1, ())) for edge, length in ((height, h), (width, w)))
        box[0], box[1], box[2], box[3] = left, top, left + w, top + h
    return boxes

"""Damaged samples are named with their files, in this process and in workers."""

import json
import shutil

import cv2
import numpy as np
import pytest
from mmengine.dataset import BaseDataset, Compose, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from torch.utils.data import DataLoader

from mmlk.cli.sentences import sentence_of
from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.coco import CLASSES, generate_coco
from mmlk.datasets.samples import NamedPipeline, SampleError, name_samples

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='Resize', scale=(96, 96))]


@pytest.fixture(scope='module')
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp('small')
    counts = dict(num_train=2, num_val=1, size=96, progress=False)
    return {'ade20k': generate_ade20k(root, **counts), 'coco': generate_coco(root, **counts)}


@pytest.fixture
def segmentation(generated, tmp_path):
    """A data set of label maps, its first picture and the label map of that."""
    import mmseg.datasets  # noqa: F401

    root = shutil.copytree(generated['ade20k'], tmp_path / 'ade')
    init_default_scope('mmseg')
    dataset = DATASETS.build(
        dict(
            type='ADE20KDataset',
            data_root=str(root),
            data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
            pipeline=[*LOAD, dict(type='PackSegInputs')],
        )
    )
    name_samples(dataset, 'train_dataloader')
    name = 'ADE_train_00000001'
    return dataset, root / f'images/training/{name}.jpg', root / f'annotations/training/{name}.png'


def detection(root):
    import mmdet.datasets  # noqa: F401

    init_default_scope('mmdet')
    load = [LOAD[0], dict(type='LoadAnnotations', with_bbox=True, with_mask=True), dict(type='PackDetInputs')]
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017'),
            metainfo=dict(classes=CLASSES),
            pipeline=load,
        )
    )
    name_samples(dataset, 'train_dataloader')
    return dataset


def error_of(dataset):
    with pytest.raises(SampleError) as caught:
        dataset[0]
    return str(caught.value)


def test_whole_samples_pass(segmentation, generated):
    dataset, *_ = segmentation
    assert dataset[0]['inputs'].shape == (3, 96, 96)
    assert len(detection(generated['coco'])[0]['data_samples'].gt_instances)


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (lambda path: path.write_bytes(b''), 'is empty'),
        (lambda path: path.write_text('no picture'), 'cannot be decoded (no picture of a known format)'),
        (lambda path: path.unlink(), 'there is no such file'),
        (lambda path: (path.unlink(), path.mkdir()), 'is a folder'),
        (lambda path: (path.unlink(), path.symlink_to('nothing')), 'is a link that leads nowhere'),
    ],
    ids=['empty', 'text', 'missing', 'folder', 'link'],
)
@pytest.mark.parametrize('which', [1, 2], ids=['picture', 'label map'])
def test_file_that_cannot_be_read(segmentation, damage, reason, which):
    dataset, path = segmentation[0], segmentation[which]
    damage(path)
    noun = ('picture', 'label map')[which - 1]
    error = error_of(dataset)
    assert error.startswith(f'train_dataloader cannot use the {noun} {path}: {reason}')
    assert 'tools/check_data.py --all' in error and '\n' not in error


def test_in_a_worker(segmentation):
    dataset, picture, _ = segmentation
    picture.write_bytes(b'')
    with pytest.raises(SampleError) as caught:
        list(DataLoader(dataset, num_workers=1))
    assert sentence_of(caught.value).startswith(f'train_dataloader cannot use the picture {picture}: is empty; replace')


def write(path, labels):
    Image.fromarray(labels).save(path)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda labels: np.full_like(labels, 200), 'label 199 after loading, expected 0 to 149 and 255'),
        (lambda labels: labels[:, :48], 'the label map has 48 x 96 pixels, the picture 96 x 96'),
        (lambda labels: labels.astype(np.uint16) + 256, 'the label map has labels above 255'),
    ],
    ids=['above the classes', 'cut', '16-bit'],
)
def test_label_map_that_cannot_be_trained_with(segmentation, change, reason):
    """All of these would go through the pipeline: resizing and 8 bits hide them."""
    dataset, picture, path = segmentation
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    assert error_of(dataset).startswith(
        f'train_dataloader cannot use the picture {picture} and the label map {path}: {reason}'
    )


def test_views_of_test_time_augmentation(segmentation):
    dataset, picture, path = segmentation
    views = dict(type='TestTimeAug', transforms=[[dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
                                                 [LOAD[1]], [dict(type='PackSegInputs')]])  # fmt: skip
    dataset.pipeline = Compose([LOAD[0], views])
    name_samples(dataset, 'test_dataloader')
    assert len(dataset[0]['data_samples']) == 2
    write(path, np.full((96, 96), 200, np.uint8))
    assert error_of(dataset).startswith(f'test_dataloader cannot use the picture {picture} and the label map {path}')


def test_label_maps_of_other_kinds_are_used(segmentation):
    dataset, _, path = segmentation
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    expected = dataset[0]['data_samples'].gt_sem_seg.data
    cv2.imwrite(str(path), labels.astype(np.uint16))
    assert (dataset[0]['data_samples'].gt_sem_seg.data == expected).all()
    palette = Image.fromarray(labels, mode='P')
    palette.putpalette(list(range(256)) * 3)
    palette.save(path)
    assert (dataset[0]['data_samples'].gt_sem_seg.data == expected).all()


@pytest.mark.parametrize(
    ('key', 'value', 'reason'),
    [
        ('bbox', [0, 0, float('inf'), 50], 'a box is no number'),
        ('segmentation', dict(counts=[0, 10**6], size=[96, 96]), '"counts" of run lengths that do not add up'),
        ('segmentation', dict(counts='ab!', size=[96, 96]), '"counts" of run lengths that are neither text nor'),
        ('segmentation', dict(counts=[10**8], size=[10**4, 10**4]), '"size" of run lengths that is not that of the'),
        ('segmentation', None, "KeyError: 'mask'"),
        ('segmentation', [[10, 10, 20, 10, 20, float('inf')]], 'more than numbers of -1000000 to 1000000'),
        ('segmentation', [[10, 10, 1e9, 10, 20, -1e9]], 'more than numbers of'),
        ('segmentation', [[10, 10, 'a', 10, 20, 5]], 'more than numbers of'),
    ],
)
def test_annotations_that_cannot_be_used(generated, tmp_path, key, value, reason):
    """pycocotools takes the process down for most of these."""
    root = shutil.copytree(generated['coco'], tmp_path / 'coco')
    path = root / 'annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        annotation[key] = value
    path.write_text(json.dumps(content))
    error = error_of(detection(root))
    assert reason in error and str(path) in error and str(root / 'train2017') in error


@pytest.mark.parametrize('value', [-5, 0, 'x', 10**12, 96.5])
def test_size_that_is_none(generated, tmp_path, value):
    """pycocotools fails at the end of a test, with a message about a C type."""
    root = shutil.copytree(generated['coco'], tmp_path / 'coco')
    dataset = detection(root)
    info = dict(dataset.get_data_info(0), width=value)
    with pytest.raises(SampleError, match=f'000000000001.jpg: its width is {value!r} in .*instances_train2017.json'):
        dataset.pipeline(info)


class Numbers(BaseDataset):
    def load_data_list(self):
        return [dict(number=1)]


def test_data_sets_within_others():
    def fail(data):
        raise ValueError('no')

    one, other, third = (Numbers(pipeline=[fail]) for _ in range(3))
    name_samples(ConcatDataset([one, other]), 'val_dataloader')
    name_samples(RepeatDataset(third, times=2), 'val_dataloader')
    for dataset in (one, other, third):
        assert isinstance(dataset.pipeline, NamedPipeline)
        assert error_of(dataset).startswith('val_dataloader cannot use a sample: its pipeline fails (ValueError: no)')


def test_other_pipelines_are_left_alone():
    class Own(Compose):
        pass

    dataset = Numbers(pipeline=[])
    own = dataset.pipeline = Own([])
    name_samples(dataset, 'train_dataloader')
    assert dataset.pipeline is own
    name_samples(object(), 'train_dataloader')

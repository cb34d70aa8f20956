"""tools/predict.py on tiny networks of the three hosts: what it writes, what it draws, what it says to bad input."""

import importlib
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tiny_models import head_options
from tool_runner import TINY, TOOLS, run_tool

DET_CLASSES = ('boat', 'ship', 'tower', 'sun', 'rock', 'buoy')
BACKBONE = ['depths=(1,1,1,1)', 'width_factor=0.0834', 'kernel_size=(9,9,7,7)']
BACKBONE = [f'model.backbone.{option}' for option in BACKBONE]
DETECTOR = [
    'model.backbone.init_cfg=None',
    *head_options('mmdet'),
    *(
        f'model.roi_head.bbox_head.{stage}.{key}={value}'
        for stage in range(3)
        for key, value in (('num_classes', 6), ('norm_cfg.type', 'BN'))
    ),
    'model.roi_head.mask_head.num_classes=6',
    'model.test_cfg.rcnn.max_per_img=6',
    'test_dataloader.dataset.pipeline.1.scale=(192,128)',
]
#: Config, options that make it tiny, and what a run on data of one's own notes in the checkpoint.
HOSTS = {
    'classification': ('configs/imagenet/pelk_t.py', [*BACKBONE, 'model.head.in_channels=64'], {}),
    'detection': ('configs/coco/cascade_mask_rcnn_pelk_t.py', BACKBONE + DETECTOR, {'classes': DET_CLASSES}),
    'segmentation': (
        'configs/ade20k/upernet_pelk_t.py',
        [*TINY[:7], 'test_dataloader.dataset.pipeline.1.scale=(256,64)', 'model.test_cfg.mode=whole'],
        {},
    ),
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, repository):
    monkeypatch.chdir(repository)


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory, repository):
    """A checkpoint of each tiny network, as MMEngine writes them."""
    folder = tmp_path_factory.mktemp('checkpoints')
    paths = {}
    for task, (config, options, meta) in HOSTS.items():
        cfg = Config.fromfile(repository / config)
        pairs = [option.partition('=')[::2] for option in options]
        cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in pairs})
        scope = cfg.default_scope
        importlib.import_module(f'{scope}.models')
        init_default_scope(scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        # Fusion of kernels with other statistics than those of a new network.
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        paths[task] = folder / f'{task}.pth'
        torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': meta}}, paths[task])
    return paths


@pytest.fixture(scope='module')
def photos(tmp_path_factory, repository):
    """Pictures of many kinds in nested folders, one of them broken, and a file that is none."""
    folder = tmp_path_factory.mktemp('photos')
    scene = Image.open(repository / 'docs/images/scene.jpg').convert('RGB').resize((96, 64))
    (folder / 'nested' / 'deep').mkdir(parents=True)
    scene.save(folder / 'a.jpg')
    scene.save(folder / 'a.png')
    scene.save(folder / 'nested' / 'a.jpg')
    scene.convert('L').save(folder / 'grey.png')
    scene.convert('CMYK').save(folder / 'nested' / 'cmyk.JPG', format='JPEG')
    scene.convert('P').save(folder / 'palette.gif')
    deep = (np.asarray(scene.convert('L')).astype(np.uint16) << 8) + 77
    cv2.imwrite(str(folder / 'nested' / 'deep' / 'sixteen.tif'), deep)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    scene.save(folder / 'turned.jpg', exif=exif)
    (folder / 'truncated.jpg').write_bytes((folder / 'a.jpg').read_bytes()[:700])
    (folder / 'text.png').write_text('no picture')
    (folder / 'notes.txt').write_text('no picture, and not called one')
    return folder


GOOD = [
    'a.jpg',
    'a.png',
    'grey.png',
    'nested/a.jpg',
    'nested/cmyk.JPG',
    'nested/deep/sixteen.tif',
    'palette.gif',
    'turned.jpg',
]


def predict(task, checkpoint, source, out, *arguments):
    config, options, _ = HOSTS[task]
    return run_tool('predict.py', config, checkpoint, source, '--out', out, *arguments, '--cfg-options', *options)


def drawn_files(out):
    return sorted(path.relative_to(out / 'pictures').as_posix() for path in (out / 'pictures').rglob('*.*'))


@pytest.mark.parametrize('task', HOSTS)
def test_folder_of_all_kinds_of_pictures(task, checkpoints, photos, tmp_path):
    thr = ['--score-thr', '0'] if task == 'detection' else []
    result = predict(task, checkpoints[task], photos, tmp_path, '--batch-size', '3', *thr)
    # Two cannot be read: a sentence each, the others are predicted.
    assert result.code == 1, result.err
    problems = [line for line in result.err.splitlines() if line.startswith('problem: ')]
    assert problems[0] == f'problem: {photos}/text.png: is not a picture of a known format'
    assert problems[1].startswith(f'problem: {photos}/truncated.jpg: cannot be decoded (')
    assert len(problems) == 2
    assert '8 of 10 predicted' in result.out
    assert '1 files that are no pictures by name, such as notes.txt' in result.out
    assert drawn_files(tmp_path) == sorted('palette.gif.png' if name == 'palette.gif' else name for name in GOOD)
    assert not list(tmp_path.rglob('*.part'))
    content = json.loads((tmp_path / 'predictions.json').read_text())
    records = content['images' if task == 'detection' else 'predictions']
    assert [record['file_name' if task == 'detection' else 'file'] for record in records] == GOOD
    for record in records:
        turned = record['drawn'] == 'pictures/turned.jpg'
        assert (record['width'], record['height']) == ((64, 96) if turned else (96, 64))
        # Drawn eight times as large, so that names do not cover it.
        drawn = cv2.imread(str(tmp_path / record['drawn']))
        assert drawn.shape == (8 * record['height'], 8 * record['width'], 3)
    CHECKS[task](content, tmp_path)


def check_classification(content, out):
    for record in content['predictions']:
        scores = [entry['score'] for entry in record['top']]
        assert len(scores) == 5 and scores == sorted(scores, reverse=True) and 0 < sum(scores) < 1
        assert all(0 <= entry['label'] < 1000 for entry in record['top'])
    # Names of ImageNet from the config's data set.
    from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

    entry = content['predictions'][0]['top'][0]
    assert entry['name'] == IMAGENET_CATEGORIES[entry['label']]
    # Decoded the same way, up to the loss of JPEG.
    scores = {record['file']: record['top'][0]['score'] for record in content['predictions']}
    assert scores['a.jpg'] == scores['nested/a.jpg']
    assert scores['a.jpg'] == pytest.approx(scores['a.png'], rel=0.05)


def check_detection(content, out):
    assert content['categories'] == [dict(id=label, name=name) for label, name in enumerate(DET_CLASSES)]
    assert content['annotations']
    for annotation in content['annotations']:
        image = content['images'][annotation['image_id']]
        left, top, width, height = annotation['bbox']
        assert left >= 0 and top >= 0 and left + width <= image['width'] + 1e-3
        assert top + height <= image['height'] + 1e-3
        decoded = coco_mask.decode(annotation['segmentation'])
        assert decoded.shape == (image['height'], image['width']) and decoded.sum() == annotation['area']
        assert 0 <= annotation['score'] <= 1
    assert content['info']['score_thr'] == 0
    # COCO's own tools read it.
    coco = COCO(str(out / 'predictions.json'))
    assert len(coco.getAnnIds()) == len(content['annotations'])


def check_segmentation(content, out):
    from mmseg.datasets import ADE20KDataset

    names = ADE20KDataset.METAINFO['classes']
    maps = [record['label_map'] for record in content['predictions']]
    assert len(set(maps)) == len(maps) == 8 and 'labels/a.png' in maps and 'labels/a.jpg.png' in maps
    for record in content['predictions']:
        labels = cv2.imread(str(out / record['label_map']), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (record['height'], record['width']) and labels.dtype == np.uint8
        found, counts = np.unique(labels, return_counts=True)
        assert {entry['label']: entry['share'] for entry in record['classes']} == pytest.approx(
            dict(zip(found.tolist(), (counts / labels.size).tolist(), strict=True))
        )
        assert sum(entry['share'] for entry in record['classes']) == pytest.approx(1)
        assert all(entry['name'] == names[entry['label']] for entry in record['classes'])


CHECKS = {
    'classification': check_classification,
    'detection': check_detection,
    'segmentation': check_segmentation,
}


def records_of(out, key='predictions'):
    return json.loads((out / 'predictions.json').read_text())[key]


def test_fused_model_predicts_the_same(checkpoints, photos, tmp_path):
    for task in HOSTS:
        outs = [tmp_path / task / name for name in ('plain', 'deploy')]
        thr = ['--score-thr', '0'] if task == 'detection' else []
        for out, flag in zip(outs, ([], ['--deploy']), strict=True):
            result = predict(task, checkpoints[task], photos / 'a.png', out, *thr, *flag)
            assert result.code == 0, result.err
        key = 'annotations' if task == 'detection' else 'predictions'
        plain, deployed = (records_of(out, key) for out in outs)
        assert len(plain) == len(deployed) > 0
        if task == 'classification':
            assert [entry['label'] for entry in deployed[0]['top']] == [entry['label'] for entry in plain[0]['top']]
            assert deployed[0]['top'][0]['score'] == pytest.approx(plain[0]['top'][0]['score'], rel=1e-3)
        elif task == 'detection':
            for a, b in zip(plain, deployed, strict=True):
                assert b['bbox'] == pytest.approx(a['bbox'], abs=0.1) and b['score'] == pytest.approx(
                    a['score'], abs=1e-3
                )
        else:
            maps = [cv2.imread(str(out / 'labels/a.png'), cv2.IMREAD_UNCHANGED) for out in outs]
            assert (maps[0] == maps[1]).mean() > 0.99


def test_same_batched_and_through_the_hosts_own_test_pipeline(checkpoints, photos, tmp_path):
    """What mmseg's own functions predict for the file; pictures of one size in one batch or one after the other."""
    from mmseg.apis import inference_model, init_model

    config, options, _ = HOSTS['segmentation']
    for size in ('1', '8'):
        assert (
            predict('segmentation', checkpoints['segmentation'], photos, tmp_path / size, '--batch-size', size).code
            == 1
        )
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in (o.split('=', 1) for o in options)})
    # mmseg's function takes the pipeline from here.
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    model = init_model(cfg, str(checkpoints['segmentation']), device='cpu')
    for name, output in (('a.jpg', 'a.jpg.png'), ('turned.jpg', 'turned.jpg.png'), ('grey.png', 'grey.png')):
        expected = inference_model(model, str(photos / name)).pred_sem_seg.data[0].numpy()
        for size in ('1', '8'):
            found = cv2.imread(str(tmp_path / size / 'labels' / output), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(found, expected)


class TestClasses:
    def test_classification(self, checkpoints, photos, tmp_path):
        classes = ['tench', '7', 'toilet tissue, toilet paper, bathroom tissue']
        result = predict(
            'classification', checkpoints['classification'], photos / 'a.jpg', tmp_path, '--classes', *classes
        )
        assert result.code == 0, result.err
        (record,) = records_of(tmp_path)
        assert {entry['label'] for entry in record['top']} == {0, 7, 999}

    def test_detection(self, checkpoints, photos, tmp_path):
        arguments = ['--score-thr', '0', '--classes', 'Ship', 'rock']
        result = predict('detection', checkpoints['detection'], photos / 'a.jpg', tmp_path, *arguments)
        assert result.code == 0, result.err
        assert {one['category_id'] for one in records_of(tmp_path, 'annotations')} <= {1, 4}

    def test_segmentation(self, checkpoints, photos, tmp_path):
        source, checkpoint = photos / 'a.png', checkpoints['segmentation']
        assert predict('segmentation', checkpoint, source, tmp_path / 'all').code == 0
        (record,) = records_of(tmp_path / 'all')
        assert len(record['classes']) > 1
        # Nothing of the other classes is drawn, and the label map keeps them.
        last = record['classes'][-1]
        arguments = ['--classes', str(last['label']), '--opacity', '1']
        assert predict('segmentation', checkpoint, source, tmp_path / 'one', *arguments).code == 0
        (only,) = records_of(tmp_path / 'one')
        assert only['classes'] == [last]
        labels, same = (
            cv2.imread(str(tmp_path / run / 'labels/a.png'), cv2.IMREAD_UNCHANGED) for run in ('all', 'one')
        )
        assert np.array_equal(labels, same)
        drawn = cv2.imread(str(tmp_path / 'one/pictures/a.png'))
        plain = cv2.resize(cv2.imread(str(source)), None, fx=8, fy=8)
        others = (labels != last['label']).repeat(8, 0).repeat(8, 1)
        assert np.abs(drawn[others].astype(int) - plain[others]).mean() < 1

    def test_unknown(self, checkpoints, photos, tmp_path):
        error = predict('detection', checkpoints['detection'], photos, tmp_path, '--classes', 'shop').error
        assert error == "--classes must name some of the 6 classes, got 'shop'; did you mean ship?"
        error = predict('detection', checkpoints['detection'], photos, tmp_path, '--classes', '6').error
        assert "got '6'; the first is boat" in error


def test_pictures_of_odd_sizes(checkpoints, tmp_path):
    """One pixel, a line, and one that would be resized to nothing, which is said."""
    folder = tmp_path / 'odd'
    folder.mkdir()
    for width, height in ((1, 1), (300, 1), (2000, 1), (33, 77), (2600, 900)):
        Image.new('RGB', (width, height), 'red').save(folder / f'{width}x{height}.png')
    for task in HOSTS:
        result = predict(task, checkpoints[task], folder, tmp_path / task, '--batch-size', '4')
        problems = [line for line in result.err.splitlines() if line.startswith('problem: ')]
        assert result.code == bool(problems), result.err
        for problem in problems:
            assert '2000x1.png: 2000 x 1 pixels cannot go through' in problem or '300x1.png: ' in problem
        key = 'images' if task == 'detection' else 'predictions'
        assert len(records_of(tmp_path / task, key)) + len(problems) == 5 and len(problems) < 3
        # Drawn half as large.
        assert cv2.imread(str(tmp_path / task / 'pictures/2600x900.png')).shape == (450, 1300, 3)


def test_interrupted(checkpoints, photos, tmp_path, monkeypatch):
    """What is done is kept, and nothing claims more."""
    from mmlk.inference import Predictor

    done = []
    whole = Predictor.predict

    def interrupt(self, items):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(items)
        return whole(self, items)

    monkeypatch.setattr(Predictor, 'predict', interrupt)
    result = predict('segmentation', checkpoints['segmentation'], photos, tmp_path)
    assert result.code == 130
    assert 'stopped after 2 of 10 pictures' in result.err
    assert [record['file'] for record in records_of(tmp_path)] == GOOD[:2] and drawn_files(tmp_path) == GOOD[:2]


def test_model_that_fails_on_one_picture(checkpoints, photos, tmp_path, monkeypatch):
    """As where memory is too small for it: the others of its batch are predicted."""
    from mmlk.inference import Predictor

    whole = Predictor.predict

    def fail(self, items):
        if any(item['data_samples'].metainfo['img_path'].endswith('grey.png') for item in items):
            raise torch.OutOfMemoryError('out of memory\nTried to allocate')
        return whole(self, items)

    monkeypatch.setattr(Predictor, 'predict', fail)
    result = predict('segmentation', checkpoints['segmentation'], photos, tmp_path, '--batch-size', '4')
    assert result.code == 1
    assert 'grey.png: the model failed at 96 x 64 pixels (out of memory)' in result.err
    assert [record['file'] for record in records_of(tmp_path)] == [name for name in GOOD if name != 'grey.png']


def test_weights_that_are_no_numbers(checkpoints, photos, tmp_path):
    content = torch.load(checkpoints['classification'], weights_only=True)
    content['state_dict']['head.fc.bias'][3] = float('nan')
    torch.save(content, tmp_path / 'nan.pth')
    result = predict('classification', tmp_path / 'nan.pth', photos / 'a.jpg', tmp_path / 'out')
    assert 'does not fit ImageClassifier: 1 with NaN or infinity (head.fc.bias)' in result.error
    assert not (tmp_path / 'out').exists()


def test_scores_that_are_no_numbers(checkpoints, photos, tmp_path):
    content = torch.load(checkpoints['classification'], weights_only=True)
    # Numbers, the sums of which are none.
    content['state_dict']['head.fc.weight'].fill_(3e38)
    torch.save(content, tmp_path / 'large.pth')
    result = predict('classification', tmp_path / 'large.pth', photos / 'a.jpg', tmp_path / 'out')
    assert result.code == 1 and f'problem: {photos}/a.jpg: the scores are no numbers' in result.err
    assert not (tmp_path / 'out').exists()


class TestBadInput:
    """One clear sentence and exit code 2, nothing written."""

    @pytest.fixture
    def error(self, checkpoints, photos, tmp_path):
        def make(*arguments, task='segmentation', checkpoint=None, source=None, out=None):
            result = predict(
                task, checkpoint or checkpoints[task], source or photos, out or tmp_path / 'out', *arguments
            )
            assert not (tmp_path / 'out').exists()
            return result.error

        return make

    def test_source(self, error, tmp_path):
        assert f'found nothing at {tmp_path}/none; correct the path' in error(source=tmp_path / 'none')
        (tmp_path / 'empty').mkdir()
        (tmp_path / 'empty' / 'x.txt').touch()
        assert f'expected pictures in {tmp_path}/empty, found none among 1 files' in error(source=tmp_path / 'empty')

    def test_out(self, error, photos, tmp_path):
        assert '--out must be another folder than that of the pictures' in error(out=photos)
        assert '--out must be a folder' in error(out=photos / 'a.jpg')
        (tmp_path / 'run' / 'pictures').mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'run' / 'pictures' / 'a.png')
        message = error(source=tmp_path / 'run' / 'pictures', out=tmp_path / 'run')
        assert 'would write over the picture' in message

    def test_checkpoint(self, error, checkpoints, tmp_path):
        assert 'found none at' in error(checkpoint=tmp_path / 'none.pth')
        assert 'does not fit EncoderDecoder' in error(checkpoint=checkpoints['classification'])
        (tmp_path / 'broken.pth').write_bytes(b'x')
        assert 'broken.pth is not a checkpoint' in error(checkpoint=tmp_path / 'broken.pth')
        # A run of other classes: the config that it wrote is named.
        (tmp_path / 'demo').mkdir()
        weights = torch.load(checkpoints['detection'], weights_only=True)
        torch.save(weights, tmp_path / 'demo/epoch_1.pth')
        (tmp_path / 'demo/x.py').touch()
        options = ['--cfg-options', *HOSTS['detection'][1], 'model.roi_head.mask_head.num_classes=80']
        Image.new('RGB', (8, 8)).save(tmp_path / 'x.png')
        command = [HOSTS['detection'][0], tmp_path / 'demo/epoch_1.pth', tmp_path / 'x.png', '--out', tmp_path / 'out']
        assert f'the config of its run may be {tmp_path}/demo/x.py' in run_tool('predict.py', *command, *options).error

    def test_options(self, error):
        assert '--score-thr is for detectors' in error('--score-thr', '0.5')
        assert '--device must be one that torch can use here' in error('--device', 'gpu')

    @pytest.mark.parametrize('arguments', [['--score-thr', '2'], ['--opacity', 'x'], ['--batch-size', '0'], []])
    def test_usage(self, arguments, photos):
        result = run_tool('predict.py', 'x.py', 'x.pth', photos, *arguments)
        assert result.code == 2 and 'usage: predict.py' in result.err


def test_results_inside_the_folder_of_pictures_are_no_input(checkpoints, tmp_path):
    Image.new('RGB', (40, 30), 'blue').save(tmp_path / 'x.png')
    for _ in range(2):
        result = predict('classification', checkpoints['classification'], tmp_path, tmp_path / 'out')
        assert result.code == 0 and '1 of 1 predicted' in result.out


def test_command_line(checkpoints, photos, tmp_path, repository):
    """The real one, without options of the config: tiny networks are for a config of one's own."""
    config, options, _ = HOSTS['segmentation']
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in (o.split('=', 1) for o in options)})
    cfg.dump(str(tmp_path / 'own.py'))
    command = [
        sys.executable,
        str(TOOLS / 'predict.py'),
        tmp_path / 'own.py',
        checkpoints['segmentation'],
        photos / 'a.jpg',
    ]
    result = subprocess.run([*command, '--out', tmp_path / 'out'], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert '1 of 1 predicted' in result.stdout and 'mmengine - INFO' not in result.stdout
    assert cv2.imread(str(tmp_path / 'out/pictures/a.jpg')) is not None


def test_help_has_examples():
    result = run_tool('predict.py', '--help')
    assert result.code == 0
    assert 'examples:\n  python tools/predict.py ' in result.out

"""The field in the visualiser during whole runs, which end with the weights of a run without the hook."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

import mmlk  # noqa: F401
from mmlk.engine import ERFHook

HOOK = dict(type='mmlk.ERFHook', size=(16, 24), num_images=2)


class Pictures(Dataset):
    """Four pictures of noise, with the records of a data set of the hosts where there is a folder."""

    def __init__(self, folder=None):
        self.folder = folder

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(index)))

    def get_data_info(self, index):
        return dict(img_path=str(self.folder / f'{index}.png')) if self.folder else {}


class Network(BaseModel):
    """A backbone that draws from the generator in training and keeps statistics; part of it is frozen."""

    def __init__(self):
        super().__init__()
        frozen = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
        self.backbone = nn.Sequential(frozen, nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 4, 5, padding=2))

    def train(self, mode=True):
        super().train(mode)
        self.backbone[0].eval()
        return self

    def forward(self, inputs, mode='tensor'):
        x = self.backbone(torch.stack(inputs))
        return dict(loss=x.square().mean()) if mode == 'loss' else [x.detach()]


class Mean(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(sample.mean().item() for sample in data_samples)

    def compute_metrics(self, results):
        return dict(mean=sum(results) / len(results))


def train(folder, *hooks, dataset=None, epochs=2):
    torch.manual_seed(0)
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=dataset or Pictures(),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='pseudo_collate'),
    )
    runner = Runner(
        model=Network(),
        work_dir=str(folder),
        custom_hooks=[dict(hook) for hook in hooks],
        default_scope='mmengine',
        experiment_name=folder.name + str(len(MMLogger._instance_dict)),
        randomness=dict(seed=0),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=[Mean()],
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')]),
    )
    runner.train()
    return runner


def events_of(folder):
    """Tag and step of every picture, and the scalars of the field."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = folder.rglob('events.out.tfevents*')
    events = EventAccumulator(str(file))
    events.Reload()
    pictures = [(tag, event) for tag in events.Tags()['images'] for event in events.Images(tag)]
    scalars = {tag: events.Scalars(tag) for tag in events.Tags()['scalars'] if tag.startswith('erf/')}
    return pictures, scalars


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    return train(tmp_path_factory.mktemp('plain')).model.state_dict()


@pytest.mark.parametrize('hook', [HOOK, dict(HOOK, by_epoch=False, interval=3)], ids=['epochs', 'iterations'])
def test_training_goes_on_as_without_it(plain, tmp_path, hook):
    runner = train(tmp_path, hook)
    assert all(torch.equal(value, plain[name]) for name, value in runner.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in runner.model.backbone[0].parameters())
    pictures, scalars = events_of(tmp_path)
    # Two epochs of two iterations.
    steps = [2, 4] if hook.get('by_epoch', True) else [3]
    assert [(tag, event.step) for tag, event in pictures] == [('erf', step) for step in steps]
    assert pictures[0][1].width > 300
    assert set(scalars) == {'erf/area_20', 'erf/area_30', 'erf/area_50', 'erf/area_99'}
    # A convolution of 3 before one of 5 sees 7 x 7 of 16 x 24 pixels.
    assert scalars['erf/area_99'][-1].value == pytest.approx(49 / 384)


def test_pictures_of_the_validation_set_or_a_folder(tmp_path):
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    for index in range(4):
        Image.fromarray(np.full((8, 8, 3), 60 * index, np.uint8)).save(pictures / f'{index}.png')
    for name, hook, dataset in (
        ('set', HOOK, Pictures(pictures)),
        ('folder', dict(HOOK, images=str(pictures), num_images=9), None),
    ):
        runner = train(tmp_path / name, hook, dataset=dataset, epochs=1)
        (source,) = [hook._source for hook in runner.hooks if isinstance(hook, ERFHook)]
        assert len(source.files) == (2 if name == 'set' else 4)


@pytest.mark.parametrize(
    ('settings', 'reason'),
    [
        (dict(stage=7), 'stage must be between -1 and 0'),
        (dict(images='/nowhere'), 'expected a folder of pictures'),
    ],
)
def test_what_cannot_be_drawn_stops_nothing(plain, tmp_path, settings, reason):
    runner = train(tmp_path, dict(HOOK, **settings))
    assert all(torch.equal(value, plain[name]) for name, value in runner.model.state_dict().items())
    log = '\n'.join(path.read_text() for path in tmp_path.rglob('*.log'))
    # Tried after both epochs, said once.
    assert log.count(f'ERFHook draws nothing: {reason}') == 1
    assert events_of(tmp_path) == ([], {})


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(interval=0), 'interval must be at least 1, got 0'),
        (dict(num_images=0), 'num_images must be at least 1, got 0'),
        (dict(size=(0, 4)), 'size must be at least 1, got 0'),
        (dict(size=(4,)), r'size must be \(H, W\), got \(4,\)'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ERFHook(**settings)

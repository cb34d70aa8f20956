"""What is asked before a runner is built."""

import os
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.dataset import Compose

from mmlk.cli.run import _explained_data, require_known_keys, require_whole_parts, require_work_dir
from mmlk.datasets.samples import NamedPipeline
from mmlk.errors import UsageError


@pytest.mark.parametrize(
    ('written', 'meant'),
    [('custom_hoks', 'custom_hooks'), ('train_datloader', 'train_dataloader'), ('optimwrapper', 'optim_wrapper')],
)
def test_misspelt_key(written, meant):
    with pytest.raises(UsageError, match=f'the config has {written}, which nothing reads, and no {meant}; rename'):
        require_known_keys(Config({written: 5, 'model': dict()}))


def test_other_keys(repository):
    require_known_keys(Config(dict(custom_hooks=[], custom_hoks=[], model=dict(), num_classes=5, data_root='x')))
    for name in (
        'ade20k/upernet_pelk_t',
        'coco/fcos_replknet_31b',
        'imagenet/slak_t',
        'cityscapes/upernet_replknet_31b_769',
    ):
        require_known_keys(Config.fromfile(repository / f'configs/{name}.py'))


def test_parts_that_belong_together():
    require_whole_parts(Config(dict(model=dict(), val_cfg=None, val_dataloader=None, val_evaluator=None)))
    require_whole_parts(Config(dict(train_dataloader=dict(), train_cfg={}, optim_wrapper=dict())))
    with pytest.raises(UsageError, match='has test_cfg and no test_dataloader and no test_evaluator; they are needed'):
        require_whole_parts(Config(dict(test_cfg={})))
    with pytest.raises(UsageError, match='the config has train_dataloader and train_cfg and no optim_wrapper; they'):
        require_whole_parts(Config(dict(train_dataloader=dict(), train_cfg={}, optim_wrapper=None)))


def test_work_dir(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    (tmp_path / 'link').symlink_to('link')
    require_work_dir(str(tmp_path / 'new' / 'below'))
    require_work_dir(str(tmp_path))
    for path, reason in (
        (tmp_path / 'file', 'is no folder'),
        (tmp_path / 'file' / 'below', 'is no folder'),
        (tmp_path / 'link', 'is no folder'),
        ('a\0b', 'null'),
        ('x' * 300, 'too long'),
        (None, ''),
        (5, ''),
    ):
        with pytest.raises(UsageError, match=f'the work directory .* cannot be used: .*{reason}.*; give another'):
            require_work_dir(path if path is None or isinstance(path, int) else str(path))
    assert not (tmp_path / 'new').exists()


def test_work_dir_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(UsageError, match=f'{tmp_path} cannot be written to; give another'):
        require_work_dir(str(tmp_path / 'new'))


class Loaders:
    """What of a runner builds the data."""

    def __init__(self, error=None):
        self.error = error

    def build_dataloader(self, dataloader, seed=None):
        if self.error:
            raise self.error
        return SimpleNamespace(dataset=SimpleNamespace(pipeline=Compose([])))

    @property
    def train_loop(self):
        self.dataloader = self.build_dataloader({}, seed=3)
        return self


class TestDataOfARunner:
    CFG = Config(dict(train_dataloader=dict(dataset=dict(type='CocoDataset', data_root='/no', ann_file='a.json'))))

    def build(self, runner, cfg):
        with _explained_data(runner, cfg, 'train_dataloader'):
            return runner.train_loop

    def test_pipelines_name_their_files(self):
        runner = self.build(Loaders(), self.CFG)
        assert isinstance(runner.dataloader.dataset.pipeline, NamedPipeline)
        assert 'build_dataloader' not in vars(runner)

    def test_annotations_are_looked_into_where_building_fails(self):
        with pytest.raises(UsageError, match='train_dataloader cannot be used: /no/a.json: found no such file'):
            self.build(Loaders(KeyError('bbox')), self.CFG)

    def test_nothing_left(self):
        cfg = Config(dict(train_dataloader=dict(dataset=dict(type='ADE20KDataset'))))
        error = ValueError('need at least one array to concatenate')
        with pytest.raises(UsageError, match='train_dataloader has no sample: its annotations are of no picture'):
            self.build(Loaders(error), cfg)

    def test_other_errors_pass(self):
        cfg = Config(dict(train_dataloader=dict(dataset=dict(type='ADE20KDataset'))))
        with pytest.raises(KeyError, match='bbox'):
            self.build(Loaders(KeyError('bbox')), cfg)

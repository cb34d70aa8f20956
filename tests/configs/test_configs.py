"""Every config parses and loads this package.

What a host's configs hold beyond that is tested in test_<task>_configs.py beside this file.
"""

from pathlib import Path

import pytest
from mmengine.config import Config

import mmlk  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (ROOT / 'configs').glob('*/*.py') if '_base_' not in path.parts)
HOSTS = {'ade20k': 'mmseg', 'cityscapes': 'mmseg', 'coco': 'mmdet', 'imagenet': 'mmpretrain'}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_parses(path):
    cfg = Config.fromfile(path)
    assert cfg.default_scope == HOSTS[path.parent.name]
    assert cfg.custom_imports['imports'] == ['mmlk']
    assert cfg.model.backbone.type.startswith('mmlk.')
    # Where there is a schedule, the learning rate can be fitted to another batch.
    assert cfg.auto_scale_lr.base_batch_size % cfg.train_dataloader.batch_size == 0

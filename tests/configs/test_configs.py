"""Every config parses and loads this package; PeLK's classifiers build and say what their names say.

What a host's configs hold beyond that is tested in test_<task>_configs.py beside this file.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

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


@pytest.mark.parametrize('size', ['t', 's', 'b', 'b_101'])
def test_pelk_classifier(size):
    """Full size, without storage: channels of backbone and head fit."""
    cfg = Config.fromfile(ROOT / f'configs/imagenet/pelk_{size}.py')
    assert (cfg.model.backbone.type, cfg.model.backbone.arch) == ('mmlk.PeLK', size)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        features = model.extract_feat(torch.empty(1, 3, 64, 64))
    assert model.head(features).shape == (1, 1000)

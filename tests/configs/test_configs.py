"""Every config parses, builds and says what its name says."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmlk  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (ROOT / 'configs').glob('*/*.py') if '_base_' not in path.parts)
ADE20K = [path for path in CONFIGS if path.parent.name == 'ade20k']


def load(path: Path) -> Config:
    return Config.fromfile(path)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_builds_and_runs_on_meta(path):
    """Full size, without storage: channels of backbone, heads and losses fit."""
    cfg = load(path)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        features = model.extract_feat(torch.empty(1, 3, 64, 64))
    if cfg.default_scope == 'mmseg':
        assert model.decode_head(features).shape[1] == 150
        assert model.auxiliary_head(features).shape[1] == 150
    else:
        assert model.head(features).shape == (1, 1000)
    assert cfg.custom_imports['imports'] == ['mmlk']


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_the_name_says_what_is_in_it(path):
    backbone = load(path).model.backbone
    size = re.fullmatch(r'(?:upernet_)?pelk_(.+)', path.stem)[1]
    assert backbone.type == 'mmlk.PeLK'
    assert backbone.arch == size
    if path.parent.name == 'ade20k':
        assert backbone.init_cfg.checkpoint == f'checkpoints/pelk_{size}.pth'
        assert (ROOT / f'configs/imagenet/pelk_{size}.py').is_file()


@pytest.mark.parametrize(
    ('size', 'drop_path_rate', 'num_layers'), [('t', 0.4, 6), ('s', 0.3, 12), ('b', 0.4, 12), ('b_101', 0.4, 12)]
)
def test_ade20k_recipe(size, drop_path_rate, num_layers):
    """SLaK's table (facts of the paper's section on ADE20K), literally."""
    cfg = load(ROOT / f'configs/ade20k/upernet_pelk_{size}.py')
    assert cfg.model.backbone.drop_path_rate == drop_path_rate
    assert cfg.model.backbone.layer_scale_init_value == 1.0
    optim = cfg.optim_wrapper
    assert optim.optimizer == dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)
    assert (optim.paramwise_cfg.layer_decay_rate, optim.paramwise_cfg.decay_type) == (0.9, 'stage_wise')
    assert optim.paramwise_cfg.num_layers == num_layers
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.type, warm_up.start_factor, warm_up.end) == ('LinearLR', 1e-6, 1500)
    assert (decay.type, decay.power, decay.eta_min, decay.begin, decay.end) == ('PolyLR', 1.0, 0.0, 1500, 160000)
    assert cfg.train_cfg.max_iters == 160000
    assert cfg.train_pipeline[3].crop_size == (512, 512)
    assert cfg.model.decode_head.norm_cfg.type == cfg.model.auxiliary_head.norm_cfg.type == 'SyncBN'
    assert cfg.model.decode_head.channels == 512
    assert (cfg.model.auxiliary_head.in_index, cfg.model.auxiliary_head.loss_decode.loss_weight) == (2, 0.4)
    assert cfg.model.test_cfg == dict(mode='slide', crop_size=(512, 512), stride=(341, 341))
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16


class TestMetafile:
    models = yaml.safe_load((ROOT / 'configs/ade20k/metafile.yml').read_text())['Models']

    def test_lists_every_config_once(self):
        assert sorted(model['Config'] for model in self.models) == [str(path.relative_to(ROOT)) for path in ADE20K]
        assert 'configs/ade20k/metafile.yml' in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']

    @pytest.mark.parametrize('model', models, ids=lambda model: model['Alias'])
    def test_agrees_with_the_config(self, model):
        cfg = load(ROOT / model['Config'])
        assert model['Alias'] == Path(model['Config']).stem
        parts = re.fullmatch(r'upernet_pelk-(.+)_8xb(\d+)-(\d+)k_ade20k-(\d+)x\4', model['Name'])
        assert parts[1].replace('-', '_') == cfg.model.backbone.arch
        assert int(parts[2]) == cfg.train_dataloader.batch_size
        assert int(parts[3]) * 1000 == cfg.train_cfg.max_iters == model['Metadata']['Training Iterations']
        assert (int(parts[4]),) * 2 == cfg.crop_size
        assert model['Metadata']['Batch Size'] == 8 * cfg.train_dataloader.batch_size

    def test_published_numbers(self):
        """PeLK, Table 2."""
        published = {
            'upernet_pelk_t': (48.1, 62, 970),
            'upernet_pelk_s': (49.7, 84, 1077),
            'upernet_pelk_b': (50.4, 126, 1237),
            'upernet_pelk_b_101': (50.6, 126, 1339),
        }
        for model in self.models:
            meta = model['Metadata']
            found = (model['Results'][0]['Metrics']['mIoU'], meta['Parameters (M)'], meta['FLOPs (G)'])
            assert found == published[model['Alias']]

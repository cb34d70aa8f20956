"""Every segmentation config, against the literal recipe of its authors."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmlk  # noqa: F401
from mmlk.checkpoints.fit import missing_weights_message

ROOT = Path(__file__).resolve().parents[2]
TINY = (80, 160, 320, 640)
SMALL = (96, 192, 384, 768)
BASE = (128, 256, 512, 1024)
LARGE = (192, 384, 768, 1536)
EXTRA = (256, 512, 1024, 2048)
WIDE_T = (124, 249, 499, 998)
WIDE_B = (166, 332, 665, 1331)


@dataclass(frozen=True)
class Row:
    """A config: network, batch (GPUs x images), iterations and warm-up, drop path, layer decay, data, weights.

    Attributes:
        decay: Rate, type and number of layers; None for one learning rate and the default constructor.
        weights: Stem of the checkpoint it starts from.
        test: 'slide' (2/3 of the crop as stride), 'whole', or 'multiple' (whole, sides multiples of 32).
        scale: Size that pictures are resized to for testing.
    """

    type: str
    arch: str
    channels: tuple[int, ...]
    gpus: int
    images: int
    iterations: int
    warm_up: int
    drop_path: float
    decay: tuple[float, str, int] | None
    weights: str
    test: str = 'slide'
    crop: int = 512
    scale: tuple[int, int] = (2048, 512)
    with_cp: bool = False


def pelk(arch, channels, drop_path, layers):
    decay = (0.9, 'stage_wise', layers)
    return Row('PeLK', arch, channels, 8, 2, 160000, 1500, drop_path, decay, f'pelk_{arch}')


def replknet(arch, channels, gpus, images, iterations, warm_up, drop_path, weights, test='whole', **data):
    schedule = (gpus, images, iterations, warm_up)
    return Row('RepLKNet', arch, channels, *schedule, drop_path, None, weights, test, with_cp=True, **data)


def slak(arch, channels, drop_path, layers):
    decay = (0.9, 'stage_wise', layers)
    return Row('SLaK', arch, channels, 4, 4, 160000, 1500, drop_path, decay, f'slak_{arch}')


def shiftwise(arch, channels, weights):
    return Row('ShiftWiseNet', arch, channels, 4, 4, 160000, 1500, 0.4, (1.0, 'layer_wise', 9), weights)


def unireplknet(arch, channels, drop_path, decay, weights, size=512):
    data = dict(crop=size, scale=(4 * size, size), with_cp=arch != 't')
    return Row('UniRepLKNet', arch, channels, 8, 2, 160000, 1500, drop_path, decay, weights, 'multiple', **data)


LAYERS12 = (0.9, 'layer_wise', 12)
ROWS = {
    'upernet_pelk_t': pelk('t', WIDE_T, 0.4, 6),
    'upernet_pelk_s': pelk('s', WIDE_T, 0.3, 12),
    'upernet_pelk_b': pelk('b', WIDE_B, 0.4, 12),
    'upernet_pelk_b_101': pelk('b_101', WIDE_B, 0.4, 12),
    'upernet_replknet_31b': replknet('31b', BASE, 64, 2, 40000, 400, 0.5, 'replknet_31b'),
    'upernet_replknet_31b_in21k_640': replknet(
        '31b', BASE, 64, 2, 40000, 400, 0.3, 'replknet_31b_in21k_pretrain', 'slide', crop=640
    ),
    'upernet_replknet_31l_in21k_640': replknet(
        '31l', LARGE, 64, 1, 80000, 800, 0.3, 'replknet_31l_in21k_pretrain', 'slide', crop=640
    ),
    'upernet_replknet_xl_640': replknet('xl', EXTRA, 16, 2, 160000, 1500, 0.5, 'replknet_xl', 'slide', crop=640),
    'upernet_replknet_31b_80k': replknet('31b', BASE, 16, 2, 80000, 800, 0.5, 'replknet_31b_120e'),
    **{
        f'upernet_replknet_31b_k{edge}_80k': replknet(
            f'31b_k{edge}', BASE, 16, 2, 80000, 800, 0.5, f'replknet_31b_k{edge}_120e'
        )
        for edge in (3, 7, 13, 25)
    },
    'upernet_slak_t': slak('t', WIDE_T, 0.4, 6),
    'upernet_slak_s': slak('s', WIDE_T, 0.3, 12),
    'upernet_slak_b': slak('b', WIDE_B, 0.4, 12),
    'upernet_slak_t_80k': Row('SLaK', 't', WIDE_T, 4, 8, 80000, 800, 0.1, None, 'slak_t_120e'),
    'upernet_shiftwise_t': shiftwise('v2_t', TINY, 'shiftwise_t'),
    'upernet_shiftwise_s': shiftwise('v2_s', SMALL, 'shiftwise_s'),
    'upernet_shiftwise_v1_t': shiftwise('v1_t', SMALL, 'shiftwise_v1_t'),
    'upernet_unireplknet_t': unireplknet('t', TINY, 0.2, (1.0, 'layer_wise', 9), 'unireplknet_t'),
    'upernet_unireplknet_s': unireplknet('s', SMALL, 0.3, LAYERS12, 'unireplknet_s'),
    'upernet_unireplknet_s_in21k': unireplknet('s', SMALL, 0.3, LAYERS12, 'unireplknet_s_in21k_384'),
    'upernet_unireplknet_s_in21k_640': unireplknet('s', SMALL, 0.3, LAYERS12, 'unireplknet_s_in21k_384', 640),
    'upernet_unireplknet_b_in21k_640': unireplknet('b', BASE, 0.3, LAYERS12, 'unireplknet_b_in21k_384', 640),
    'upernet_unireplknet_l_in21k_640': unireplknet(
        'l', LARGE, 0.4, (0.85, 'layer_wise', 12), 'unireplknet_l_in21k_384', 640
    ),
    'upernet_unireplknet_xl_in21k_640': unireplknet(
        'xl', EXTRA, 0.4, (0.85, 'layer_wise', 12), 'unireplknet_xl_in21k_384', 640
    ),
}
CITYSCAPES = {
    'upernet_replknet_31b_769': replknet(
        '31b', BASE, 32, 2, 20000, 400, 0.5, 'replknet_31b', crop=769, scale=(2049, 1025)
    )
}
CASES = [('ade20k', *item) for item in ROWS.items()] + [('cityscapes', *item) for item in CITYSCAPES.items()]
every_config = pytest.mark.parametrize(('folder', 'stem', 'row'), CASES, ids=[case[1] for case in CASES])


@cache
def load(folder: str, stem: str) -> Config:
    """The config, parsed once; not to be changed."""
    return Config.fromfile(ROOT / 'configs' / folder / f'{stem}.py')


def steps(pipeline):
    return {step['type']: {key: value for key, value in step.items() if key != 'type'} for step in pipeline}


@pytest.mark.parametrize(('folder', 'rows'), [('ade20k', ROWS), ('cityscapes', CITYSCAPES)])
def test_every_config_is_in_the_table(folder, rows):
    assert {path.stem for path in (ROOT / 'configs' / folder).glob('*.py')} == set(rows)


@every_config
def test_builds_and_runs_on_meta(folder, stem, row):
    """Full size, without storage: type, widths, heads, norms and activation checkpointing."""
    cfg = load(folder, stem)
    init_default_scope('mmseg')
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        features = model.extract_feat(torch.empty(1, 3, 64, 64))
        assert [tuple(feature.shape) for feature in features] == [
            (1, width, 16 >> stage, 16 >> stage) for stage, width in enumerate(row.channels)
        ]
        classes = {'ade20k': 150, 'cityscapes': 19}[folder]
        assert model.decode_head(features).shape == (1, classes, 16, 16)
        assert model.auxiliary_head(features).shape == (1, classes, 4, 4)
    assert type(model.backbone).__name__ == row.type
    assert model.decode_head.in_channels == list(row.channels)
    assert model.auxiliary_head.in_channels == row.channels[2]
    # The authors synchronise every BatchNorm, of the heads too.
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert {stage.with_cp for stage in model.backbone.stages} == {row.with_cp}
    # The norms of the outputs: LayerNorms of the ConvNeXt-like networks, BatchNorms of RepLKNet-XL.
    assert hasattr(model.backbone, 'norm0') is (row.type != 'RepLKNet' or row.arch == 'xl')


@every_config
def test_network_and_heads(folder, stem, row):
    cfg = load(folder, stem)
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.arch, backbone.drop_path_rate) == (f'mmlk.{row.type}', row.arch, row.drop_path)
    if row.type in ('PeLK', 'SLaK', 'ShiftWiseNet'):
        assert backbone.layer_scale_init_value == 1.0
    decode, auxiliary = cfg.model.decode_head, cfg.model.auxiliary_head
    assert (decode.type, decode.channels, decode.pool_scales, decode.in_index) == (
        'UPerHead', 512, (1, 2, 3, 6), [0, 1, 2, 3],
    )  # fmt: skip
    assert (auxiliary.type, auxiliary.channels, auxiliary.num_convs, auxiliary.in_index) == ('FCNHead', 256, 1, 2)
    assert (decode.loss_decode.loss_weight, auxiliary.loss_decode.loss_weight) == (1.0, 0.4)
    assert decode.align_corners == auxiliary.align_corners == (folder == 'cityscapes')
    windows = dict(mode='slide', crop_size=(row.crop,) * 2, stride=(row.crop * 2 // 3,) * 2)
    assert cfg.model.test_cfg == (windows if row.test == 'slide' else dict(mode='whole'))


@every_config
def test_schedule(folder, stem, row):
    cfg = load(folder, stem)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    flat = row.decay is None
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=2e-4 if flat else 1e-4, betas=(0.9, 0.999), weight_decay=0.05
    )
    warm_up, decay = cfg.param_scheduler
    assert warm_up == dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=row.warm_up)
    assert decay == dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=row.warm_up, end=row.iterations)
    assert cfg.train_cfg.max_iters == row.iterations
    assert row.iterations % cfg.train_cfg.val_interval == 0
    assert cfg.train_dataloader.batch_size == row.images
    assert cfg.auto_scale_lr.base_batch_size == row.gpus * row.images
    if flat:
        assert 'constructor' not in cfg.optim_wrapper
        assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0.0)
    else:
        assert cfg.optim_wrapper.constructor == 'mmlk.LayerDecayOptimWrapperConstructor'
        paramwise = cfg.optim_wrapper.paramwise_cfg
        assert (paramwise.layer_decay_rate, paramwise.decay_type, paramwise.num_layers) == row.decay


#: Parameters and (power of the decay rate, weight decay) that they get.
DECAY = {
    'upernet_pelk_t': {
        'backbone.stages.0.shared.position_embedding.weight': (6, 0.0),
        'backbone.stages.2.blocks.8.mixer.weight': (4, 0.05),
        'backbone.stages.2.blocks.8.layer_scale.gamma': (4, 0.0),
    },
    'upernet_replknet_31b': {
        'backbone.downsample_layers.0.0.conv.weight': (0, 0.05),
        'backbone.stages.2.blocks.35.pw1.norm.bias': (0, 0.0),
        # As with the authors, whose only exception are norms.
        'decode_head.conv_seg.bias': (0, 0.05),
    },
    'upernet_slak_t': {
        'backbone.downsample_layers.3.1.weight': (7, 0.05),
        'backbone.stages.0.blocks.0.mixer.vertical_weight': (6, 0.05),
        'backbone.stages.3.blocks.2.ffn.fc1.bias': (3, 0.0),
        'decode_head.conv_seg.bias': (0, 0.0),
    },
    'upernet_slak_b': {'backbone.stages.3.blocks.2.ffn.fc1.weight': (9, 0.05)},
    'upernet_slak_t_80k': {'backbone.stages.3.blocks.2.layer_scale.gamma': (0, 0.05)},
    # Stored with four axes, both parts of GRN have weight decay with the authors.
    'upernet_shiftwise_t': {
        'backbone.stages.2.blocks.17.ffn.grn.weight': (1, 0.05),
        'backbone.stages.2.blocks.17.ffn.grn.bias': (1, 0.05),
        'backbone.stages.2.blocks.17.ffn.fc1.bias': (1, 0.0),
    },
    'upernet_unireplknet_s': {
        'backbone.downsample_layers.0.0.weight': (13, 0.05),
        'backbone.stages.1.blocks.0.ffn.grn.bias': (11, 0.05),
        'backbone.stages.2.blocks.0.se.fc1.bias': (10, 0.0),
        'backbone.stages.2.blocks.26.ffn.fc1.weight': (2, 0.05),
        'backbone.stages.3.blocks.0.ffn.fc1.weight': (1, 0.05),
        'backbone.norm3.weight': (0, 0.0),
    },
    'upernet_unireplknet_l_in21k_640': {'backbone.downsample_layers.1.0.weight': (11, 0.05)},
}


@pytest.mark.parametrize('stem', DECAY)
def test_learning_rates_and_weight_decay(stem):
    cfg = load('ade20k', stem)
    init_default_scope('mmseg')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(param): name for name, param in model.named_parameters()}
    groups = {names[id(param)]: group for group in wrapper.optimizer.param_groups for param in group['params']}
    assert set(groups) == set(names.values())
    rate = cfg.optim_wrapper.paramwise_cfg.get('layer_decay_rate', 1.0)
    for name, (power, weight_decay) in DECAY[stem].items():
        assert groups[name]['lr'] == pytest.approx(cfg.optim_wrapper.optimizer.lr * rate**power), name
        assert groups[name]['weight_decay'] == weight_decay, name


@every_config
def test_sparsity(folder, stem, row):
    """What was pruned on ImageNet stays zero, except in SLaK's schedule of 80k iterations."""
    sparse = row.type in ('PeLK', 'SLaK', 'ShiftWiseNet') and stem != 'upernet_slak_t_80k'
    hooks = [dict(type='mmlk.DynamicSparsityHook', mode='static')] if sparse else []
    assert (load(folder, stem).get('custom_hooks') or []) == hooks


@every_config
def test_data(folder, stem, row):
    cfg = load(folder, stem)
    train = steps(cfg.train_dataloader.dataset.pipeline)
    # RepLKNet's 640 crops come from pictures resized as for 512.
    assert train['RandomResize'] == dict(scale=row.scale, ratio_range=(0.5, 2.0), keep_ratio=True)
    assert train['RandomCrop'] == dict(crop_size=(row.crop,) * 2, cat_max_ratio=0.75)
    assert train['RandomFlip'] == dict(prob=0.5)
    assert {'LoadImageFromFile', 'LoadAnnotations', 'PhotoMetricDistortion', 'PackSegInputs'} < set(train)
    assert cfg.crop_size == cfg.model.data_preprocessor.size == (row.crop,) * 2
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        test = list(steps(loader.dataset.pipeline))
        multiple = ['ResizeToMultiple'] if row.test == 'multiple' else []
        assert test == ['LoadImageFromFile', 'Resize', *multiple, 'LoadAnnotations', 'PackSegInputs']
        assert steps(loader.dataset.pipeline)['Resize'] == dict(scale=row.scale, keep_ratio=True)
        if multiple:
            assert steps(loader.dataset.pipeline)['ResizeToMultiple'] == dict(size_divisor=32)
    kind = {'ade20k': 'ADE20KDataset', 'cityscapes': 'CityscapesDataset'}[folder]
    root = {'ade20k': 'data/ade/ADEChallengeData2016', 'cityscapes': 'data/cityscapes'}[folder]
    for name in ('train', 'val', 'test'):
        assert (cfg[f'{name}_dataloader'].dataset.type, cfg[f'{name}_dataloader'].dataset.data_root) == (kind, root)


@every_config
def test_normalisation(folder, stem, row):
    """RepLKNet-XL was pretrained with mean and standard deviation 127.5, all others with those of ImageNet."""
    preprocessor = load(folder, stem).model.data_preprocessor
    if row.arch == 'xl' and row.type == 'RepLKNet':
        assert preprocessor.mean == preprocessor.std == [127.5, 127.5, 127.5]
    else:
        assert preprocessor.mean == [123.675, 116.28, 103.53]
        assert preprocessor.std == [58.395, 57.12, 57.375]
    assert (preprocessor.bgr_to_rgb, preprocessor.pad_val, preprocessor.seg_pad_val) == (True, 0, 255)


@every_config
def test_tta(folder, stem, row):
    cfg = load(folder, stem)
    assert cfg.tta_model == dict(type='SegTTAModel')
    resizes, *multiple, flips, annotations, packing = cfg.tta_pipeline[1].transforms
    ratios = (0.75, 1.0, 1.25) if row.scale == (2560, 640) else (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    assert [resize.scale for resize in resizes] == [
        (int(row.scale[0] * ratio), int(row.scale[1] * ratio)) for ratio in ratios
    ]
    assert [(flip.type, flip.prob, flip.direction) for flip in flips] == [
        ('RandomFlip', 0.0, 'horizontal'), ('RandomFlip', 1.0, 'horizontal'),
    ]  # fmt: skip
    assert multiple == ([[dict(type='ResizeToMultiple', size_divisor=32)]] if row.test == 'multiple' else [])
    assert (annotations, packing) == ([dict(type='LoadAnnotations')], [dict(type='PackSegInputs')])


#: Weights that nobody published; the configs that train them are in configs/imagenet.
UNPUBLISHED = {
    *('pelk_t', 'pelk_s', 'pelk_b', 'pelk_b_101'),
    *('replknet_31b_k3_120e', 'replknet_31b_k7_120e', 'replknet_31b_k25_120e', 'shiftwise_s', 'shiftwise_v1_t'),
}


@every_config
def test_pretrained_weights(folder, stem, row):
    init = load(folder, stem).model.backbone.init_cfg
    assert init == dict(type='Pretrained', checkpoint=f'checkpoints/{row.weights}.pth', prefix='backbone.')
    message = missing_weights_message(init.checkpoint)
    assert ('tools/convert_checkpoint.py' in message) is (row.weights not in UNPUBLISHED)


#: mIoU at one and at several scales, parameters (M) and FLOPs (G): PeLK Table 2, the READMEs of RepLKNet, SLaK and
#: UniRepLKNet, RepLKNet's series of kernels, PeLK Table 1 (SLaK at 80k), SW's paper.
PUBLISHED = {
    'upernet_pelk_t': (48.1, None, 62, 970),
    'upernet_pelk_s': (49.7, None, 84, 1077),
    'upernet_pelk_b': (50.4, None, 126, 1237),
    'upernet_pelk_b_101': (50.6, None, 126, 1339),
    'upernet_replknet_31b': (49.9, 50.6, 112, 1170),
    'upernet_replknet_31b_in21k_640': (51.5, 52.3, 112, 1829),
    'upernet_replknet_31l_in21k_640': (52.4, 52.7, 207, 2404),
    'upernet_replknet_xl_640': (55.2, 56.0, 374, 3431),
    'upernet_replknet_31b_k3_80k': (46.05, None, 104.1, 1119),
    'upernet_replknet_31b_k7_80k': (48.05, None, 104.6, 1123),
    'upernet_replknet_31b_k13_80k': (48.35, None, 106.0, 1130),
    'upernet_replknet_31b_k25_80k': (48.68, None, 110.6, 1159),
    'upernet_replknet_31b_80k': (49.17, None, 112, 1170),
    'upernet_slak_t': (47.6, None, 65, 936),
    'upernet_slak_s': (49.4, None, 91, 1028),
    'upernet_slak_b': (50.0, None, 135, 1172),
    'upernet_slak_t_80k': (46.5, None, None, None),
    'upernet_shiftwise_t': (49.22, 50.06, 62, 948),
    'upernet_shiftwise_s': (49.79, 50.83, 88, 1039),
    'upernet_shiftwise_v1_t': (None, None, None, None),
    'upernet_unireplknet_t': (48.6, 49.1, 61, 946),
    'upernet_unireplknet_s': (50.5, 51.0, 86, 1036),
    'upernet_unireplknet_s_in21k': (51.9, 52.7, 86, 1036),
    'upernet_unireplknet_s_in21k_640': (52.3, 52.7, 86, 1618),
    'upernet_unireplknet_b_in21k_640': (53.5, 53.9, 130, 1850),
    'upernet_unireplknet_l_in21k_640': (54.5, 55.0, 254, 2507),
    'upernet_unireplknet_xl_in21k_640': (55.2, 55.6, 425, 3420),
    'upernet_replknet_31b_769': (83.1, 83.5, 110, 2315),
}


class TestMetafile:
    files = {
        folder: yaml.safe_load((ROOT / f'configs/{folder}/metafile.yml').read_text())
        for folder in ('ade20k', 'cityscapes')
    }
    models = {model['Alias']: model for file in files.values() for model in file['Models']}

    def test_lists_every_config_once(self):
        assert list(self.models) == list(dict.fromkeys(self.models))
        assert sum(len(file['Models']) for file in self.files.values()) == len(CASES)
        assert set(self.models) == {stem for _, stem, _ in CASES}
        imported = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
        assert {f'configs/{folder}/metafile.yml' for folder in self.files} <= set(imported)
        for file in self.files.values():
            collections = {collection['Name'] for collection in file['Collections']}
            assert {model['In Collection'] for model in file['Models']} == collections
            assert all((ROOT / collection['README']).is_file() for collection in file['Collections'])

    @every_config
    def test_agrees_with_the_config(self, folder, stem, row):
        model = self.models[stem]
        assert model['Config'] == f'configs/{folder}/{stem}.py'
        parts = re.fullmatch(rf'(upernet_.+)_(\d+)xb(\d+)-(\d+)k_{folder}-(\d+)x\5', model['Name'])
        network, gpus, images, iterations, crop = parts.groups()
        # The short name is the long one's network and, where it differs from the default, crop or schedule.
        network = network.replace('-', '_')
        assert stem in {network, f'{network}_{crop}', f'{network}_{iterations}k'}
        assert stem.endswith(f'_{crop}') is (row.crop != 512)
        assert ('in21k' in stem) is ('in21k' in row.weights)
        assert (int(gpus), int(images), int(crop)) == (row.gpus, row.images, row.crop)
        assert int(iterations) * 1000 == row.iterations == model['Metadata']['Training Iterations']
        assert model['Metadata']['Batch Size'] == row.gpus * row.images
        family = stem.split('_')[1]
        size = row.arch.removeprefix('v2_')
        assert network.removesuffix('_in21k') == f'upernet_{family}_{size}'

    def test_published_numbers(self):
        found = {}
        for stem, model in self.models.items():
            (result,) = model['Results'] or [{'Metrics': {}, 'Source': 'paper'}]
            assert result['Source'] == 'paper'
            metrics, meta = result['Metrics'], model['Metadata']
            assert ('Counted' in meta) is ('FLOPs (G)' in meta)
            found[stem] = (
                metrics.get('mIoU'), metrics.get('mIoU (ms)'), meta.get('Parameters (M)'), meta.get('FLOPs (G)'),
            )  # fmt: skip
        assert found == PUBLISHED

"""Every detection config, against the literal recipe of its authors."""

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
SHORT_SIDES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
MILESTONES = {36: [27, 33], 24: [16, 22], 12: [8, 11]}


@dataclass(frozen=True)
class Row:
    """A config: network, drop path, learning rate, batch (GPUs x images), layer decay, weights.

    Attributes:
        decay: Rate and number of layers of the layer-wise decay; None for one learning rate.
        weights: Stem of the checkpoint it starts from.
    """

    type: str
    arch: str
    channels: tuple[int, ...]
    drop_path: float
    rate: float
    gpus: int
    images: int
    decay: tuple[float, int] | None
    weights: str
    epochs: int = 36


TINY = (80, 160, 320, 640)
SMALL = (96, 192, 384, 768)
BASE = (128, 256, 512, 1024)
LARGE = (192, 384, 768, 1536)
EXTRA = (256, 512, 1024, 2048)
WIDE_T = (124, 249, 499, 998)
WIDE_B = (166, 332, 665, 1331)


def pelk(arch, channels, drop_path, decay):
    return Row('PeLK', arch, channels, drop_path, 2e-4, 8, 2, decay, f'pelk_{arch}')


def slak(arch, channels, drop_path, decay, weights, epochs=36):
    return Row('SLaK', arch, channels, drop_path, 2e-4, 8, 2, decay, weights, epochs)


def replknet(arch, channels, drop_path, weights, gpus=64, images=1):
    return Row('RepLKNet', arch, channels, drop_path, 4e-4, gpus, images, None, weights)


def unireplknet(arch, channels, drop_path, rate, weights):
    return Row('UniRepLKNet', arch, channels, drop_path, 1e-4, 8, 2, (rate, 12), weights)


ROWS = {
    'cascade_mask_rcnn_pelk_t': pelk('t', WIDE_T, 0.4, (0.7, 6)),
    'cascade_mask_rcnn_pelk_s': pelk('s', WIDE_T, 0.6, (0.7, 12)),
    'cascade_mask_rcnn_pelk_b': pelk('b', WIDE_B, 0.7, (0.8, 12)),
    'cascade_mask_rcnn_pelk_b_101': pelk('b_101', WIDE_B, 0.7, (0.8, 12)),
    'cascade_mask_rcnn_replknet_31b': replknet('31b', BASE, 0.6, 'replknet_31b'),
    'cascade_mask_rcnn_replknet_31b_in21k': replknet('31b', BASE, 0.4, 'replknet_31b_in21k_pretrain'),
    'cascade_mask_rcnn_replknet_31l_in21k': replknet('31l', LARGE, 0.7, 'replknet_31l_in21k_pretrain'),
    'cascade_mask_rcnn_replknet_xl': replknet('xl', EXTRA, 0.5, 'replknet_xl', 16, 4),
    'cascade_mask_rcnn_slak_t': slak('t', WIDE_T, 0.4, (0.7, 6), 'slak_t'),
    'cascade_mask_rcnn_slak_t_1x': slak('t', WIDE_T, 0.4, (0.7, 6), 'slak_t_120e', 12),
    'cascade_mask_rcnn_slak_b': slak('b', WIDE_B, 0.7, (0.8, 12), 'slak_b'),
    'cascade_mask_rcnn_shiftwise_t': Row('ShiftWiseNet', 'v2_t', TINY, 0.4, 1e-4, 8, 2, (0.8, 12), 'shiftwise_t'),
    'cascade_mask_rcnn_unireplknet_t': unireplknet('t', TINY, 0.3, 0.8, 'unireplknet_t'),
    'cascade_mask_rcnn_unireplknet_s': unireplknet('s', SMALL, 0.5, 0.8, 'unireplknet_s'),
    'cascade_mask_rcnn_unireplknet_s_in21k': unireplknet('s', SMALL, 0.5, 0.8, 'unireplknet_s_in21k_384'),
    'cascade_mask_rcnn_unireplknet_b_in21k': unireplknet('b', BASE, 0.6, 0.8, 'unireplknet_b_in21k_384'),
    'cascade_mask_rcnn_unireplknet_l_in21k': unireplknet('l', LARGE, 0.7, 0.7, 'unireplknet_l_in21k_384'),
    'cascade_mask_rcnn_unireplknet_xl_in21k': unireplknet('xl', EXTRA, 0.7, 0.7, 'unireplknet_xl_in21k_384'),
    'fcos_replknet_31b': Row('RepLKNet', '31b', BASE, 0.5, 2e-4, 8, 2, None, 'replknet_31b', 24),
}
every_config = pytest.mark.parametrize(('stem', 'row'), ROWS.items(), ids=ROWS)
CASCADES = {stem: row for stem, row in ROWS.items() if stem.startswith('cascade')}


@cache
def load(stem: str) -> Config:
    """The config, parsed once; not to be changed."""
    return Config.fromfile(ROOT / f'configs/coco/{stem}.py')


def test_every_config_is_in_the_table():
    assert {path.stem for path in (ROOT / 'configs/coco').glob('*.py')} == set(ROWS)


@every_config
def test_builds_and_runs_on_meta(stem, row):
    """Full size, without storage: type, widths, neck, heads, norms and activation checkpointing."""
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(load(stem).model).eval()
        features = model.backbone(torch.empty(1, 3, 64, 64))
        assert [tuple(feature.shape) for feature in features] == [
            (1, width, 16 >> stage, 16 >> stage) for stage, width in enumerate(row.channels)
        ]
        pyramid = model.neck(features)
    assert type(model.backbone).__name__ == row.type
    fcos = stem.startswith('fcos')
    sides = [8, 4, 2, 1, 1] if fcos else [16, 8, 4, 2, 1]
    assert [tuple(level.shape) for level in pyramid] == [(1, 256, side, side) for side in sides]
    # The authors synchronise every BatchNorm, of the heads too.
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert {stage.with_cp for stage in model.backbone.stages} == {row.type in ('RepLKNet', 'UniRepLKNet')}
    # The norms of the outputs: LayerNorms of the ConvNeXt-like networks, BatchNorms of RepLKNet-XL.
    assert hasattr(model.backbone, 'norm0') is (row.type != 'RepLKNet' or row.arch == 'xl')
    if fcos:
        assert [tuple(level.shape[1:]) for level in model.bbox_head(pyramid)[0]] == [(80, side, side) for side in sides]
        return
    assert [tuple(level.shape[1:]) for level in model.rpn_head(pyramid)[0]] == [(3, side, side) for side in sides]
    for boxes, masks in zip(model.roi_head.bbox_head, model.roi_head.mask_head, strict=True):
        scores, offsets = boxes(torch.empty(2, 256, 7, 7, device='meta'))
        assert (scores.shape, offsets.shape) == ((2, 81), (2, 320))
        assert masks(torch.empty(2, 256, 14, 14, device='meta')).shape == (2, 80, 28, 28)


@pytest.mark.parametrize('stem', CASCADES)
def test_cascade(stem):
    """Box heads with 4 convolutions and 1 linear layer, GIoU loss of weight 10, thresholds that rise."""
    cfg = load(stem)
    head = cfg.model.roi_head
    assert (cfg.model.type, head.type, head.stage_loss_weights) == ('CascadeRCNN', 'CascadeRoIHead', [1, 0.5, 0.25])
    stds = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    for box, std in zip(head.bbox_head, stds, strict=True):
        assert (box.type, box.num_shared_convs, box.num_shared_fcs, box.fc_out_channels, box.norm_cfg.type) == (
            'ConvFCBBoxHead', 4, 1, 1024, 'SyncBN',
        )  # fmt: skip
        assert (box.loss_bbox.type, box.loss_bbox.loss_weight) == ('GIoULoss', 10.0)
        assert (box.reg_class_agnostic, box.reg_decoded_bbox) == (False, True)
        assert box.bbox_coder.target_stds == std
    training, testing = cfg.model.train_cfg, cfg.model.test_cfg
    for stage, threshold in zip(training.rcnn, (0.5, 0.6, 0.7), strict=True):
        assigner = stage.assigner
        assert assigner.pos_iou_thr == assigner.neg_iou_thr == assigner.min_pos_iou == threshold
        assert (stage.sampler.num, stage.sampler.pos_fraction) == (512, 0.25)
    assert (training.rpn_proposal.nms_pre, training.rpn_proposal.max_per_img, testing.rpn.max_per_img) == (
        2000, 2000, 1000,
    )  # fmt: skip
    assert testing.rcnn == dict(
        score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5
    )


def test_fcos():
    cfg = load('fcos_replknet_31b')
    assert (cfg.model.neck.start_level, cfg.model.neck.add_extra_convs) == (1, 'on_output')
    assert cfg.model.bbox_head.loss_bbox.type == 'IoULoss'
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)
    assert cfg.train_pipeline[2] == dict(type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)], keep_ratio=True)
    assert cfg.val_evaluator.metric == 'bbox'
    assert cfg.tta_model.type == 'DetTTAModel'


@every_config
def test_network(stem, row):
    backbone = load(stem).model.backbone
    assert (backbone.type, backbone.arch, backbone.drop_path_rate) == (f'mmlk.{row.type}', row.arch, row.drop_path)
    assert backbone.get('layer_scale_init_value') == (1.0 if row.type in ('PeLK', 'SLaK', 'ShiftWiseNet') else None)
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=f'checkpoints/{row.weights}.pth', prefix='backbone.')
    # The size and pretraining in the name are those in the config.
    name = stem.removesuffix('_1x').split(f'{row.type.lower().removesuffix("net")}', 1)[-1]
    assert row.arch.removeprefix('v2_') in name.split('_') or row.arch in name
    assert ('in21k' in stem) == ('in21k' in row.weights)


@every_config
def test_normalisation(stem, row):
    """XL was pretrained with 127.5, the others with ImageNet's; one preprocessor serves training and testing."""
    preprocessor = load(stem).model.data_preprocessor
    mean, std = ([127.5] * 3,) * 2 if row.arch == 'xl' and row.type == 'RepLKNet' else (
        [123.675, 116.28, 103.53], [58.395, 57.12, 57.375],
    )  # fmt: skip
    assert (preprocessor.mean, preprocessor.std, preprocessor.bgr_to_rgb) == (mean, std, True)


@every_config
def test_schedule(stem, row):
    cfg = load(stem)
    assert cfg.optim_wrapper.type == ('AmpOptimWrapper' if row.type == 'PeLK' else 'OptimWrapper')
    # Exactly these: no momentum of an inherited SGD.
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=row.rate, betas=(0.9, 0.999), weight_decay=0.05)
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.by_epoch, warm_up.begin, warm_up.end) == (False, 0, 500)
    assert (warm_up.get('start_factor'), warm_up.get('factor')) == (
        (None, 1 / 3) if stem.startswith('fcos') else (0.001, None)
    )
    assert steps == dict(
        type='MultiStepLR', by_epoch=True, begin=0, end=row.epochs, milestones=MILESTONES[row.epochs], gamma=0.1
    )
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (row.epochs, 1)
    assert cfg.train_dataloader.batch_size == row.images
    assert cfg.auto_scale_lr.base_batch_size == row.gpus * row.images
    assert cfg.param_scheduler[1].end == (12 if stem.endswith('_1x') else 24 if stem.startswith('fcos') else 36)
    hooks = cfg.get('custom_hooks') or []
    averaged = row.type == 'UniRepLKNet' and 'in21k' in stem
    sparse = row.type in ('PeLK', 'SLaK', 'ShiftWiseNet')
    if averaged:
        assert [(hook.type, hook.momentum) for hook in hooks] == [('EMAHook', 1e-4)]
    else:
        assert hooks == ([dict(type='mmlk.DynamicSparsityHook', mode='static')] if sparse else [])


@every_config
def test_layer_decay(stem, row):
    """Learning rates and weight decay of the actual optimizer, by the authors' groups."""
    cfg = load(stem)
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    settings = cfg.optim_wrapper.to_dict() | dict(type='OptimWrapper')
    settings.pop('loss_scale', None)
    optimizer = build_optim_wrapper(model, settings).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {names[id(group['params'][0])]: group for group in optimizer.param_groups}
    assert set(groups) == set(names.values())
    if row.decay is None:
        assert {group['lr'] for group in groups.values()} == {row.rate}
        of_norms = {
            f'{name}.{key}'
            for name, module in model.named_modules()
            if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm))
            for key, _ in module.named_parameters()
        }
        assert len(of_norms) > 300
        for name, group in groups.items():
            assert group['weight_decay'] == (0.0 if name in of_norms else 0.05), name
        return
    decay, last = row.decay
    blocks = len(model.backbone.stages[2].blocks)
    depths = {
        'backbone.downsample_layers.0.': 0,
        'backbone.stages.0.blocks.0.': 1,
        'backbone.downsample_layers.1.': 2,
        'backbone.stages.1.blocks.0.': 2,
        'backbone.downsample_layers.2.': 3,
        'backbone.stages.2.blocks.0.': 3,
        f'backbone.stages.2.blocks.{blocks - 1}.': 3 + (blocks - 1) // 3,
        'backbone.downsample_layers.3.': last,
        'backbone.stages.3.blocks.2.': last,
        'backbone.norm0.': last + 1,
        'neck.': last + 1,
        'roi_head.mask_head.2.': last + 1,
    }
    for prefix, depth in depths.items():
        rates = {group['lr'] for name, group in groups.items() if name.startswith(prefix)}
        assert rates == {row.rate * decay ** (last + 1 - depth)}, prefix
    for name, parameter in model.named_parameters():
        # GRN's parameters have four dimensions in the authors' code, and decay.
        decays = parameter.ndim > 1 and 'position_embedding' not in name
        assert groups[name]['weight_decay'] == (0.05 if decays else 0.0), name


@every_config
def test_data(stem, row):
    cfg = load(stem)
    for split, loader in (('train', cfg.train_dataloader), ('val', cfg.val_dataloader), ('val', cfg.test_dataloader)):
        assert (loader.dataset.type, loader.dataset.data_root) == ('CocoDataset', 'data/coco')
        assert loader.dataset.ann_file == f'annotations/instances_{split}2017.json'
        assert loader.dataset.data_prefix == dict(img=f'{split}2017')
    assert cfg.val_evaluator.ann_file == 'data/coco/annotations/instances_val2017.json'
    # Not the pipeline for testing, as in one of the authors' files.
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    kinds = [step.type for step in cfg.train_pipeline]
    assert 'RandomFlip' in kinds
    assert cfg.test_pipeline[1] == dict(type='Resize', scale=(1333, 800), keep_ratio=True)
    if stem in CASCADES:
        whole, cropped = cfg.train_pipeline[3].transforms
        assert whole[0].scales == cropped[2].scales == [(short, 1333) for short in SHORT_SIDES]
        assert cropped[0].scales == [(short, 1333) for short in (400, 500, 600)]
        assert (cropped[1].crop_type, cropped[1].crop_size) == ('absolute_range', (384, 600))
        assert cfg.val_evaluator.metric == ['bbox', 'segm']


@every_config
def test_missing_weights_say_where_they_come_from(stem, row):
    message = missing_weights_message(load(stem).model.backbone.init_cfg.checkpoint)
    assert f'checkpoints/{row.weights}.pth' in message
    assert 'convert_checkpoint.py' in message or f'configs/imagenet/{row.weights}.py' in message


class TestMetafile:
    models = yaml.safe_load((ROOT / 'configs/coco/metafile.yml').read_text())['Models']

    def test_lists_every_config_once(self):
        assert sorted(model['Alias'] for model in self.models) == sorted(ROWS)
        assert len({model['Name'] for model in self.models}) == len(ROWS)
        assert 'configs/coco/metafile.yml' in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']

    @pytest.mark.parametrize('model', models, ids=lambda model: model['Alias'])
    def test_agrees_with_the_config(self, model):
        row, cfg = ROWS[model['Alias']], load(model['Alias'])
        assert model['Config'] == f'configs/coco/{model["Alias"]}.py'
        parts = re.fullmatch(
            r'(cascade-mask-rcnn|fcos)_(.+)_fpn_(\d+)xb(\d+)(-amp)?-ms(-crop)?-(\d)x_coco', model['Name']
        )
        assert f'{parts[1]}_{parts[2]}'.replace('-', '_') == model['Alias'].removesuffix('_1x')
        assert (int(parts[3]), int(parts[4]), 12 * int(parts[7])) == (row.gpus, row.images, cfg.train_cfg.max_epochs)
        assert (parts[5] is not None) == (cfg.optim_wrapper.type == 'AmpOptimWrapper')
        assert (parts[6] is not None) == any(step.type == 'RandomChoice' for step in cfg.train_pipeline)
        assert model['Metadata']['Batch Size'] == cfg.auto_scale_lr.base_batch_size
        assert model['Metadata']['Epochs'] == cfg.train_cfg.max_epochs

    def test_published_numbers(self):
        """PeLK, Table 3, and the READMEs of the others: box AP, mask AP, parameters (M), FLOPs (G)."""
        published = {
            'cascade_mask_rcnn_pelk_t': (51.4, 44.6, 86, 770),
            'cascade_mask_rcnn_pelk_s': (52.2, 45.3, 108, 874),
            'cascade_mask_rcnn_pelk_b': (52.9, 45.9, 147, 1028),
            'cascade_mask_rcnn_pelk_b_101': (53.1, 46.1, 147, 1127),
            'cascade_mask_rcnn_replknet_31b': (52.2, 45.2, 137, 965),
            'cascade_mask_rcnn_replknet_31b_in21k': (53.0, 46.0, 137, 965),
            'cascade_mask_rcnn_replknet_31l_in21k': (53.9, 46.5, 229, 1321),
            'cascade_mask_rcnn_replknet_xl': (55.5, 48.0, 392, 1958),
            'cascade_mask_rcnn_slak_t': (51.3, 44.3, None, None),
            'cascade_mask_rcnn_slak_t_1x': (48.4, 41.8, None, None),
            'cascade_mask_rcnn_slak_b': (52.5, 45.5, 152, 1001),
            'cascade_mask_rcnn_shiftwise_t': (52.21, 45.19, 86.89, 751.21),
            'cascade_mask_rcnn_unireplknet_t': (51.7, 44.9, 89, 749),
            'cascade_mask_rcnn_unireplknet_s': (53.0, 45.9, 113, 835),
            'cascade_mask_rcnn_unireplknet_s_in21k': (54.3, 47.1, None, None),
            'cascade_mask_rcnn_unireplknet_b_in21k': (54.8, 47.4, 155, 978),
            'cascade_mask_rcnn_unireplknet_l_in21k': (55.8, 48.4, 276, 1385),
            'cascade_mask_rcnn_unireplknet_xl_in21k': (56.4, 49.0, 443, 1952),
            'fcos_replknet_31b': (47.0, None, 87, 437),
        }
        found = {}
        for model in self.models:
            metrics = {key: value for result in model['Results'] for key, value in result['Metrics'].items()}
            meta = model['Metadata']
            sizes = (meta.get('Parameters (M)'), meta.get('FLOPs (G)'))
            found[model['Alias']] = (metrics['box AP'], metrics.get('mask AP'), *sizes)
            assert all(result['Source'].startswith('paper') for result in model['Results'])
        assert found == published

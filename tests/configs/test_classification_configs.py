"""Every ImageNet config builds, is what its name says, and holds the published recipe and figures."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope

import mmlk  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / 'configs/imagenet').glob('*.py'))
TYPES = dict(
    pelk='mmlk.PeLK',
    replknet='mmlk.RepLKNet',
    slak='mmlk.SLaK',
    shiftwise='mmlk.ShiftWiseNet',
    unireplknet='mmlk.UniRepLKNet',
)
SIZE = r'(?P<size>(?:v1_)?[a-z]+(?:_101|_31|_61)?|31[bl](?:_k\d+)?)'
NAME = re.compile(
    rf'(?P<family>{"|".join(TYPES)})_{SIZE}(?P<pretraining>_in21k)?(?P<edge>_384|_320)?(?P<epochs>_120e)?(?P<technique>_pretrain)?'
)


@cache
def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'configs/imagenet/{name}.py')


def parse(name: str) -> dict:
    return NAME.fullmatch(name).groupdict()


@pytest.mark.parametrize('name', NAMES)
def test_builds_and_runs_on_meta(name):
    """Full size, without storage: channels of backbone and head fit, and the classes are those of the data."""
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        logits = model.head(model.extract_feat(torch.empty(1, 3, 64, 64)))
    classes = {'ImageNet': 1000, 'ImageNet21k': 21841}
    assert logits.shape == (1, classes[cfg.train_dataloader.dataset.type])
    assert cfg.data_preprocessor.num_classes == logits.shape[1]
    assert cfg.train_dataloader.dataset.type == cfg.val_dataloader.dataset.type == cfg.test_dataloader.dataset.type
    MODELS.build(dict(type='ClsDataPreprocessor', **cfg.data_preprocessor))
    assert cfg.custom_imports['imports'] == ['mmlk']


@pytest.mark.parametrize('name', NAMES)
def test_the_name_says_what_is_in_it(name):
    cfg, parts = load(name), parse(name)
    backbone, size = cfg.model.backbone, parts['size']
    assert backbone.type == TYPES[parts['family']]
    arch, _, kernel = size.partition('_') if parts['family'] == 'slak' else (size, '', '')
    if parts['family'] == 'shiftwise' and not arch.startswith('v1'):
        arch = f'v2_{arch}'
    assert backbone.arch == arch
    if kernel:
        assert backbone.kernel_size[0] == int(kernel)
    assert (cfg.train_dataloader.dataset.type == 'ImageNet21k') is bool(parts['technique'])

    edge = int((parts['edge'] or '_224')[1:])
    if parts['technique'] and size in ('l', 'xl'):
        edge = 192
    train, test = cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline
    assert (train[1].type, train[1].scale) == ('RandomResizedCrop', edge)
    if edge >= 384:
        assert [step.type for step in test[1:]] == ['Resize', 'PackInputs']
        assert test[1].scale == (edge, edge)
    else:
        assert [step.type for step in test[1:]] == ['ResizeEdge', 'CenterCrop', 'PackInputs']
        assert (test[1].scale, test[2].crop_size) == (int(edge / 0.875), edge)
    assert train[1].interpolation == test[1].interpolation == 'bicubic'
    assert cfg.val_dataloader == cfg.test_dataloader
    # Runs save pipelines from these.
    assert (cfg.train_pipeline, cfg.test_pipeline) == (train, test)

    epochs = cfg.train_cfg.max_epochs
    assert cfg.param_scheduler[-1].end == epochs
    if parts['epochs']:
        assert epochs == 120
    elif parts['technique']:
        assert epochs == 90
    elif parts['pretraining'] or parts['edge']:
        assert epochs == (20 if parts['family'] == 'unireplknet' and size in ('l', 'xl') else 30)
    else:
        assert epochs == 300


@pytest.mark.parametrize('name', [name for name in NAMES if 'init_cfg' in load(name).model.backbone])
def test_fine_tuning_starts_from_the_weights_that_its_name_says(name):
    cfg, parts = load(name), parse(name)
    size = f'{parts["family"]}_{parts["size"]}'
    source = size + ('_in21k_pretrain' if parts['pretraining'] else '')
    assert cfg.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint=f'checkpoints/{source}.pth', prefix='backbone.'
    )
    # MegData73M is not public.
    assert (ROOT / f'configs/imagenet/{source}.py').is_file() is (name != 'replknet_xl_320')
    head = cfg.model.head.init_cfg
    if parts['pretraining'] or name == 'replknet_xl_320':
        assert head is None or head.type == 'TruncNormal'
    else:
        assert head == dict(type='Pretrained', checkpoint=f'checkpoints/{source}.pth', prefix='head.')


class Recipe(NamedTuple):
    """What the papers and repositories say."""

    batch: int
    lr: float
    warm_up: int
    weight_decay: float = 0.05
    mix: tuple | None = (0.8, 1.0)
    ema: bool = False
    layer_decay: float | None = None
    smallest: float = 1e-6
    smoothing: float = 0.1


SLAK = Recipe(4096, 4e-3, 20, ema=True)
REPLKNET = Recipe(2048, 4e-3, 10, ema=True)
UNIREPLKNET = Recipe(4096, 4e-3, 5)
PRETRAIN = Recipe(4096, 4e-3, 5)
CONVNEXT_FT = Recipe(512, 5e-5, 0, 1e-8, None, layer_decay=0.7)
REPLKNET_FT = Recipe(512, 4e-4, 1, 1e-8, None, True, 0.7)
UNIREPLKNET_FT = Recipe(512, 5e-5, 0, 1e-8, None, False, 0.8)
LARGE_FT = UNIREPLKNET_FT._replace(ema=True, smoothing=0.3)

#: Recipe and drop path by config.
RECIPES = dict(
    pelk_t=(SLAK, 0.1),
    pelk_s=(SLAK, 0.4),
    pelk_b=(SLAK, 0.5),
    pelk_b_101=(SLAK, 0.5),
    pelk_t_120e=(SLAK, 0.1),
    pelk_t_101_120e=(SLAK, 0.1),
    pelk_b_384=(CONVNEXT_FT, 0.8),
    pelk_b_101_384=(CONVNEXT_FT, 0.8),
    slak_t=(SLAK, 0.1),
    slak_s=(SLAK, 0.4),
    slak_b=(SLAK, 0.5),
    slak_t_120e=(SLAK, 0.1),
    slak_t_31_120e=(SLAK, 0.1),
    slak_t_61_120e=(SLAK, 0.1),
    slak_b_384=(CONVNEXT_FT, 0.8),
    shiftwise_t=(UNIREPLKNET, 0.2),
    shiftwise_s=(UNIREPLKNET, 0.4),
    shiftwise_v1_t=(SLAK, 0.1),
    shiftwise_v1_t_120e=(SLAK, 0.1),
    replknet_31b=(REPLKNET, 0.5),
    replknet_31b_120e=(REPLKNET, 0.3),
    replknet_31b_k3_120e=(REPLKNET, 0.3),
    replknet_31b_k7_120e=(REPLKNET, 0.3),
    replknet_31b_k13_120e=(REPLKNET, 0.3),
    replknet_31b_k25_120e=(REPLKNET, 0.3),
    replknet_31b_384=(REPLKNET_FT._replace(batch=1024), 0.8),
    replknet_31b_in21k_pretrain=(PRETRAIN, 0.1),
    replknet_31l_in21k_pretrain=(PRETRAIN, 0.1),
    replknet_31b_in21k=(REPLKNET_FT, 0.2),
    replknet_31b_in21k_384=(REPLKNET_FT._replace(smallest=3e-4), 0.3),
    replknet_31l_in21k_384=(REPLKNET_FT._replace(smallest=3e-4), 0.3),
    replknet_xl_320=(REPLKNET_FT._replace(smallest=3e-4), 0.3),
    unireplknet_a=(UNIREPLKNET._replace(mix=(0.3, 0.3)), 0.0),
    unireplknet_f=(UNIREPLKNET._replace(mix=(0.3, 0.3)), 0.0),
    unireplknet_p=(UNIREPLKNET._replace(mix=(0.3, 0.3)), 0.1),
    unireplknet_n=(UNIREPLKNET._replace(mix=(0.5, 0.5)), 0.1),
    unireplknet_t=(UNIREPLKNET, 0.2),
    unireplknet_s=(UNIREPLKNET, 0.4),
    unireplknet_s_in21k_pretrain=(PRETRAIN, 0.1),
    unireplknet_b_in21k_pretrain=(PRETRAIN, 0.1),
    unireplknet_l_in21k_pretrain=(PRETRAIN._replace(lr=1e-3), 0.1),
    unireplknet_xl_in21k_pretrain=(PRETRAIN._replace(lr=1e-3), 0.2),
    unireplknet_s_in21k_384=(UNIREPLKNET_FT, 0.2),
    unireplknet_b_in21k_384=(UNIREPLKNET_FT, 0.2),
    unireplknet_l_in21k_384=(LARGE_FT, 0.3),
    unireplknet_xl_in21k_384=(LARGE_FT, 0.3),
)


@pytest.mark.parametrize('name', NAMES)
def test_recipe(name):
    cfg, (recipe, drop_path_rate) = load(name), RECIPES[name]
    optim, (*warm_up, cosine) = cfg.optim_wrapper, cfg.param_scheduler
    steps = optim.get('accumulative_counts', 1)
    hooks = [hook for hook in cfg.get('custom_hooks', []) if hook.type == 'EMAHook']
    augments = (cfg.model.train_cfg or {}).get('augments')
    lr = optim.optimizer.lr
    assert cfg.model.backbone.drop_path_rate == drop_path_rate
    assert (optim.optimizer.type, optim.optimizer.betas) == ('AdamW', (0.9, 0.999))
    found = Recipe(
        batch=cfg.auto_scale_lr.base_batch_size * steps,
        lr=lr,
        warm_up=warm_up[0].end if warm_up else 0,
        weight_decay=optim.optimizer.weight_decay,
        mix=augments and tuple(augment.alpha for augment in augments),
        ema=bool(hooks),
        layer_decay=optim.paramwise_cfg.get('layer_decay_rate'),
        smallest=cosine.eta_min_ratio * lr if 'eta_min_ratio' in cosine else cosine.eta_min,
        smoothing=cfg.model.head.loss.label_smooth_val,
    )
    assert found._replace(smallest=recipe.smallest) == recipe
    assert found.smallest == pytest.approx(recipe.smallest)
    # With rates that decay towards the stem, an absolute smallest one would raise those of the first layers.
    assert ('eta_min_ratio' in cosine) is (recipe.layer_decay is not None)
    if augments:
        assert [augment.type for augment in augments] == ['Mixup', 'CutMix']
    if hooks:
        (hook,) = hooks
        assert (hook.type, hook.momentum, hook.update_buffers) == ('EMAHook', 1e-4, True)
        assert hook.get('interval', 1) == steps
    if warm_up:
        assert (warm_up[0].type, warm_up[0].start_factor) == ('LinearLR', 1e-6)
    assert (cosine.type, cosine.begin) == ('CosineAnnealingLR', found.warm_up)
    assert all(scheduler.convert_to_iter_based and scheduler.by_epoch for scheduler in cfg.param_scheduler)


#: What the hook for sparse training is given (SLaK's and SW's commands): T changes masks rarely, S and B often.
RARE = dict(sparsity=0.4, init='snip', interval=2000, prune_rate=0.5)
OFTEN = dict(sparsity=0.4, init='snip', interval=100, prune_rate=0.3)
SMALL_KERNELS = dict(scope='large_kernels', unit='kernel')
SHIFTWISE = dict(sparsity=0.3, init='snip', interval=100, prune_rate=0.3, share_interval=131, **SMALL_KERNELS)
SPARSITY = dict(
    **dict.fromkeys(['slak_t', 'slak_t_120e', 'slak_t_31_120e', 'slak_t_61_120e'], RARE),
    **dict.fromkeys(['pelk_t', 'pelk_t_120e', 'pelk_t_101_120e'], RARE),
    **dict.fromkeys(['slak_s', 'slak_b', 'pelk_s', 'pelk_b', 'pelk_b_101'], OFTEN),
    **dict.fromkeys(['slak_b_384', 'pelk_b_384', 'pelk_b_101_384'], dict(mode='static')),
    **dict.fromkeys(['shiftwise_t', 'shiftwise_s'], SHIFTWISE),
    **dict.fromkeys(['shiftwise_v1_t', 'shiftwise_v1_t_120e'], dict(**RARE, share_interval=1, **SMALL_KERNELS)),
)


@pytest.mark.parametrize('name', NAMES)
def test_sparsity(name):
    hooks = [hook for hook in load(name).get('custom_hooks', []) if hook.type != 'EMAHook']
    expected = [dict(type='mmlk.DynamicSparsityHook', **SPARSITY[name])] if name in SPARSITY else []
    assert hooks == expected
    for hook in hooks:
        HOOKS.build(hook)


@pytest.mark.parametrize('name', NAMES)
def test_augmentation_and_normalisation(name):
    cfg = load(name)
    half = name == 'replknet_xl_320'
    mean = [127.5] * 3 if half else [123.675, 116.28, 103.53]
    std = [127.5] * 3 if half else [58.395, 57.12, 57.375]
    preprocessor = cfg.data_preprocessor
    assert (preprocessor.mean, preprocessor.std, preprocessor.to_rgb) == (mean, std, True)
    _, _, flip, augment, erase, _ = cfg.train_dataloader.dataset.pipeline
    assert (flip.type, flip.prob) == ('RandomFlip', 0.5)
    assert (augment.type, augment.policies) == ('RandAugment', 'timm_increasing')
    assert (augment.num_policies, augment.total_level) == (2, 10)
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    # Pictures are BGR at this point.
    assert augment.hparams.pad_val == ([128] * 3 if half else [104, 116, 124])
    assert (erase.type, erase.erase_prob, erase.mode) == ('RandomErasing', 0.25, 'rand')
    assert (erase.fill_color, erase.fill_std) == (mean[::-1], std[::-1])


#: Top-1 accuracy (%), and parameters (M) and FLOPs (G) where given: facts of the tables, see the metafile.
PUBLISHED = dict(
    pelk_t=(82.6, 29, 5.6),
    pelk_s=(83.9, 50, 10.7),
    pelk_b=(84.2, 89, 18.3),
    pelk_b_384=(85.6, 89, 54.0),
    pelk_b_101_384=(85.8, 90, 68.3),
    pelk_t_120e=(81.6,),
    pelk_t_101_120e=(81.6,),
    replknet_31b=(83.5, 79, 15.3),
    replknet_31b_384=(84.8, 79, 45.1),
    replknet_31b_in21k=(85.2, 79, 15.3),
    replknet_31b_in21k_384=(86.0, 79, 45.1),
    replknet_31l_in21k_384=(86.6, 172, 96.0),
    replknet_xl_320=(87.8, 335, 128.7),
    replknet_31b_k3_120e=(82.11, 71.8, 12.9),
    replknet_31b_k7_120e=(82.73, 72.2, 13.1),
    replknet_31b_k13_120e=(83.02, 73.7, 13.4),
    replknet_31b_k25_120e=(83.00, 78.2, 14.8),
    replknet_31b_120e=(83.07, 79.3, 15.3),
    slak_t=(82.5, 30, 5.0),
    slak_s=(83.8, 55, 9.8),
    slak_b=(84.0, 95, 17.1),
    slak_b_384=(85.5, 95, 50.3),
    slak_t_120e=(81.6, 30, 5.0),
    slak_t_31_120e=(81.5, 30, 4.8),
    slak_t_61_120e=(81.5, 31, 5.2),
    shiftwise_t=(83.4, 31, 5.0),
    shiftwise_s=(83.9, 56, 9.4),
    unireplknet_a=(77.0, 4.4, 0.6),
    unireplknet_f=(78.6, 6.2, 0.9),
    unireplknet_p=(80.2, 10.7, 1.6),
    unireplknet_n=(81.6, 18.3, 2.8),
    unireplknet_t=(83.2, 31, 4.9),
    unireplknet_s=(83.9, 56, 9.1),
    unireplknet_s_in21k_384=(86.4, 56, 26.7),
    unireplknet_b_in21k_384=(87.4, 98, 47.2),
    unireplknet_l_in21k_384=(87.9, 218, 105.4),
    unireplknet_xl_in21k_384=(88.0, 386, 187),
)


class TestMetafile:
    index = yaml.safe_load((ROOT / 'configs/imagenet/metafile.yml').read_text())

    def test_lists_every_config_once(self):
        assert sorted(model['Alias'] for model in self.index['Models']) == NAMES
        assert len({model['Name'] for model in self.index['Models']}) == len(NAMES)
        assert 'configs/imagenet/metafile.yml' in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']

    def test_collections(self):
        collections = {collection['Name']: collection for collection in self.index['Collections']}
        assert {model['In Collection'] for model in self.index['Models']} == set(collections)
        assert all((ROOT / collection['README']).is_file() for collection in collections.values())

    @pytest.mark.parametrize('model', index['Models'], ids=lambda model: model['Alias'])
    def test_agrees_with_the_config(self, model):
        cfg, parts, meta = load(model['Alias']), parse(model['Alias']), model['Metadata']
        assert model['Config'] == f'configs/imagenet/{model["Alias"]}.py'
        family, size, source, gpus, batch, steps, epochs, data, edge = re.fullmatch(
            r'([a-z]+)-([\w-]+?)(?:_(in21k|meg73m)-pre)?_(\d+)xb(\d+)(?:-accum(\d+))?-(\d+)e_(in1k|in21k)-(\d+)px',
            model['Name'],
        ).groups()
        assert (family, size.replace('-', '_')) == (parts['family'], parts['size'])
        fine_tuned = bool(parts['pretraining']) and not parts['technique']
        other = 'meg73m' if model['Alias'] == 'replknet_xl_320' else None
        assert source == ('in21k' if fine_tuned else other)
        assert int(batch) == cfg.train_dataloader.batch_size
        assert int(gpus) * int(batch) == cfg.auto_scale_lr.base_batch_size
        assert int(steps or 1) == cfg.optim_wrapper.get('accumulative_counts', 1)
        assert meta['Batch Size'] == int(gpus) * int(batch) * int(steps or 1)
        assert int(epochs) == meta['Epochs'] == cfg.train_cfg.max_epochs
        assert data == ('in21k' if parts['technique'] else 'in1k')
        assert int(edge) == meta['Resolution'] == cfg.train_dataloader.dataset.pipeline[1].scale

    @pytest.mark.parametrize('model', index['Models'], ids=lambda model: model['Alias'])
    def test_published_numbers(self, model):
        found = [result['Metrics']['Top 1 Accuracy'] for result in model['Results']]
        found += [model['Metadata'][key] for key in ('Parameters (M)', 'FLOPs (G)') if key in model['Metadata']]
        assert tuple(found) == PUBLISHED.get(model['Alias'], ())
        assert all(result['Source'] == 'paper' for result in model['Results'])

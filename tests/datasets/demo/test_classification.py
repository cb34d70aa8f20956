"""The mmpretrain adapter: pipelines, loaders, what is switched off and what stays."""

import pytest
from mmengine.config import Config

from mmlk.datasets.demo.classification import SIZES
from mmlk.datasets.demo.demo_config import apply_demo
from mmlk.errors import UsageError


@pytest.fixture
def demo(monkeypatch, repository, tmp_path):
    """Apply the demo to a config of configs/imagenet; no data is made. Returns the config and the changes."""
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.setattr('mmlk.datasets.demo.classification.generate_imagenet', lambda root, **counts: root / 'imagenet')

    def apply(name, **options):
        cfg = Config.fromfile(repository / f'configs/imagenet/{name}.py')
        cfg.merge_from_dict(options)
        return cfg, apply_demo(cfg, data_root=tmp_path)

    return apply


def test_the_data_that_is_made(monkeypatch, repository, tmp_path):
    asked = []
    monkeypatch.setattr(
        'mmlk.datasets.demo.classification.generate_imagenet',
        lambda root, **counts: asked.append((root, counts)) or root,
    )
    apply_demo(Config.fromfile(repository / 'configs/imagenet/pelk_t.py'), data_root=tmp_path)
    assert asked == [(tmp_path, {key: SIZES[key] for key in ('size', 'num_train', 'num_val')})]


@pytest.mark.parametrize('name', ['pelk_t', 'slak_b_384', 'replknet_xl_320', 'unireplknet_l_in21k_pretrain'])
def test_pipelines_show_whole_pictures(demo, name):
    cfg, _ = demo(name)
    side = SIZES['size']
    resize = dict(type='Resize', scale=(side, side), backend='pillow', interpolation='bicubic')
    flip = dict(type='RandomFlip', prob=0.5, direction='horizontal')
    load, pack = dict(type='LoadImageFromFile'), dict(type='PackInputs')
    assert cfg.train_pipeline == cfg.train_dataloader.dataset.pipeline == [load, resize, flip, pack]
    crops = [] if name.endswith('384') else [dict(type='CenterCrop', crop_size=side)]
    for pipeline in (cfg.test_pipeline, cfg.val_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline):
        assert pipeline == [load, resize, *crops, pack]


@pytest.mark.parametrize(('name', 'suffix'), [('pelk_t', ''), ('replknet_31b_in21k_pretrain', '_21k')])
def test_loaders(demo, name, suffix, tmp_path):
    cfg, _ = demo(name)
    for loader, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        loader = cfg[f'{loader}_dataloader']
        assert (loader.batch_size, loader.num_workers, loader.persistent_workers) == (SIZES['batch_size'], 0, False)
        dataset = loader.dataset
        assert (dataset.data_root, dataset.data_prefix) == (str(tmp_path / 'imagenet'), split)
        assert dataset.ann_file == f'meta/{split}{suffix}.txt'
        assert 'split' not in dataset
    assert cfg.train_dataloader.dataset.indices % SIZES['batch_size'] == 0


def test_what_stays(demo, repository):
    for name in ('pelk_b_384', 'unireplknet_xl_in21k_pretrain'):
        before = Config.fromfile(repository / f'configs/imagenet/{name}.py')
        cfg, changes = demo(name)
        assert cfg.model.head.num_classes == before.model.head.num_classes
        assert cfg.model.head.loss == before.model.head.loss
        assert cfg.data_preprocessor == before.data_preprocessor
        assert cfg.model.backbone.arch == before.model.backbone.arch
        assert cfg.optim_wrapper.paramwise_cfg.norm_decay_mult == 0.0
        assert any(change.path == 'data_root' for change in changes)


def test_what_regularises_long_runs_is_left_out(demo):
    cfg, changes = demo('replknet_31b')
    assert 'augments' not in cfg.model.train_cfg
    assert [change.path for change in changes if 'augments' in change.path] == ['model.train_cfg.augments']
    assert cfg.model.backbone.drop_path_rate == 0.0
    (hook,) = cfg.custom_hooks
    assert (hook.interval, hook.update_buffers) == (1, True)
    assert 'accumulative_counts' not in cfg.optim_wrapper


@pytest.mark.parametrize(
    ('name', 'scale'),
    [('pelk_t', 1.0), ('slak_t', 1.0), ('shiftwise_t', 1.0), ('unireplknet_a', 1.0), ('replknet_31b', None)],
)
def test_blocks_are_heard_from_the_start(demo, name, scale):
    cfg, changes = demo(name)
    assert cfg.model.backbone.get('layer_scale_init_value') == scale
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    assert {'optim_wrapper.optimizer.lr'} < {change.path for change in changes}


@pytest.mark.parametrize('name', ['pelk_b_384', 'replknet_31b_384', 'unireplknet_s_in21k_384'])
def test_fine_tuning_starts_from_random_weights(demo, name):
    cfg, _ = demo(name)
    assert cfg.model.backbone.init_cfg is None
    assert (cfg.model.head.init_cfg or {}).get('type') != 'Pretrained'
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 1.0


def test_sync_bn_is_left_out_without_cuda(demo):
    assert demo('slak_t')[0].model.backbone.conv_norm_cfg == dict(type='BN')


def test_second_application_changes_nothing(demo, tmp_path):
    cfg, _ = demo('unireplknet_a')
    assert apply_demo(cfg, data_root=tmp_path) == []


def test_repeated_data_set_is_unpacked(demo, repository):
    inner = Config.fromfile(repository / 'configs/imagenet/pelk_t.py').train_dataloader.dataset
    repeated = dict(_delete_=True, type='RepeatDataset', times=3, dataset=inner)
    assert demo('pelk_t', **{'train_dataloader.dataset': repeated})[0].train_dataloader.dataset.type == 'ImageNet'


def test_other_data_set_is_one_sentence(demo):
    with pytest.raises(UsageError, match='on ImageNet, ImageNet21k, but val_dataloader uses CIFAR10'):
        demo('pelk_t', **{'val_dataloader.dataset.type': 'CIFAR10'})

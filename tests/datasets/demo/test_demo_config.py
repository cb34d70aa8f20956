"""``apply_demo``: what it changes, what it never changes, that it tells all of it, and its sentences."""

from copy import deepcopy
from dataclasses import replace

import pytest
from mmengine.config import Config

from mmlk.datasets.demo.demo_config import MISSING, Change, apply_demo, format_changes
from mmlk.datasets.demo.segmentation import DEMO_DATA
from mmlk.errors import UsageError

# What makes a network what it is.
ARCHITECTURE = (
    'type', 'arch', 'depths', 'kernel_size', 'channels', 'in_channels', 'in_index', 'pool_scales', 'num_classes',
    'num_convs', 'loss_decode', 'align_corners', 'dropout_ratio',
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv('MMLK_DEMO_ITERS', raising=False)
    monkeypatch.delenv('MMLK_DEMO_ROOT', raising=False)


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)


@pytest.fixture
def demo(demo_data, demo_root):
    """Apply the demo to a config with the session's data; returns the changes."""

    def apply(cfg, **kwargs):
        return apply_demo(cfg, data_root=demo_root, **kwargs)

    return apply


def replay(before: dict, changes: list[Change]) -> dict:
    """Apply changes to a plain config, as a reader of the diff would."""
    after = deepcopy(before)
    for change in changes:
        node = after
        for key in change.keys[:-1]:
            node = node[key]
        if change.old is MISSING:
            assert change.keys[-1] not in node
        else:
            assert node[change.keys[-1]] == change.old
        if change.new is MISSING:
            del node[change.keys[-1]]
        else:
            node[change.keys[-1]] = deepcopy(change.new)
    return after


def test_changes_are_complete(demo, segmentation_config):
    cfg = segmentation_config()
    before = cfg.to_dict()
    changes = demo(cfg)
    assert changes
    assert replay(before, changes) == cfg.to_dict()
    assert all(change.old != change.new for change in changes)


def test_architecture_is_untouched(demo, cpu, segmentation_config):
    def architecture(node):
        return {key: value for key, value in node.items() if key in ARCHITECTURE}

    cfg = segmentation_config()
    before = cfg.to_dict()['model']
    demo(cfg)
    after = cfg.to_dict()['model']
    assert after['type'] == before['type']
    for part in ('backbone', 'decode_head'):
        assert architecture(after[part]) == architecture(before[part])
        assert len(architecture(after[part])) >= 4
    assert architecture(after['auxiliary_head'][0]) == architecture(before['auxiliary_head'][0])


def test_model_changes_are_these_and_no_others(demo, cpu, segmentation_config):
    changed = {change.path: change.new for change in demo(segmentation_config()) if change.keys[0] == 'model'}
    assert changed == {
        'model.data_preprocessor.size': (128, 128),
        'model.backbone.drop_path_rate': 0.0,
        'model.backbone.norm_cfg.type': 'BN',
        'model.backbone.init_cfg': None,
        'model.decode_head.norm_cfg.type': 'BN',
        'model.auxiliary_head.0.norm_cfg.type': 'BN',
        'model.test_cfg.crop_size': (128, 128),
        'model.test_cfg.stride': (85, 85),
    }


def test_recipe(demo, cpu, segmentation_config):
    cfg = segmentation_config()
    demo(cfg)
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=120, val_interval=120)
    assert [(step.type, step.begin, step.end) for step in cfg.param_scheduler] == [
        ('LinearLR', 0, 12),
        ('PolyLR', 12, 120),
    ]
    assert cfg.default_hooks.logger.interval == 10
    assert cfg.default_hooks.checkpoint.interval == 120
    assert cfg.load_from is None
    assert cfg.randomness.seed == 0
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert not {'loss_scale', 'accumulative_counts'} & set(cfg.optim_wrapper)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 1.0
    assert cfg.optim_wrapper.paramwise_cfg.num_layers == 6
    assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.999)


def test_cuda_keeps_sync_bn_and_mixed_precision(demo, gpu, segmentation_config):
    cfg = segmentation_config()
    changes = demo(cfg)
    assert not [change for change in changes if 'norm_cfg' in change.keys]
    assert cfg.model.decode_head.norm_cfg.type == 'SyncBN'
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert (cfg.train_dataloader.num_workers, cfg.train_dataloader.persistent_workers) == (2, True)


def test_own_seed_is_kept(demo, segmentation_config):
    cfg = segmentation_config(randomness=dict(seed=3))
    demo(cfg)
    assert cfg.randomness.seed == 3


def test_second_application_changes_nothing(demo, segmentation_config):
    cfg = segmentation_config()
    demo(cfg)
    once = cfg.to_dict()
    assert demo(cfg) == []
    assert cfg.to_dict() == once


def test_shared_nodes_do_not_hide_changes(demo):
    loader = dict(
        num_workers=4,
        persistent_workers=True,
        dataset=dict(
            type='ADE20KDataset', data_root='data/ade', data_prefix=dict(), pipeline=[dict(type='LoadImageFromFile')]
        ),
    )
    cfg = Config(dict(default_scope='mmseg'))
    cfg.val_dataloader = loader
    cfg.test_dataloader = cfg.val_dataloader
    paths = {change.path for change in demo(cfg)}
    for name in ('val_dataloader', 'test_dataloader'):
        assert f'{name}.dataset.data_root' in paths


def test_options_given_afterwards_win(demo, segmentation_config):
    cfg = segmentation_config()
    demo(cfg)
    cfg.merge_from_dict({'train_cfg.max_iters': 7, 'model.data_preprocessor.size': (64, 64)})
    assert cfg.train_cfg.max_iters == 7 and cfg.model.data_preprocessor.size == (64, 64)


def test_format_is_a_diff():
    changes = [
        Change(('train_dataloader', 'dataset', 'data_root'), 'data/ade', 'data/demo'),
        Change(('train_pipeline', 3, 'size_divisor'), 32, MISSING),
        Change(('randomness',), MISSING, {'seed': 0}),
    ]
    assert format_changes(changes).splitlines() == [
        "- train_dataloader.dataset.data_root: 'data/ade'",
        "+ train_dataloader.dataset.data_root: 'data/demo'",
        '- train_pipeline.3.size_divisor: 32',
        "+ randomness: {'seed': 0}",
    ]


def test_iterations_come_from_argument_then_environment(demo, monkeypatch, segmentation_config):
    monkeypatch.setenv('MMLK_DEMO_ITERS', '30')
    for arguments, expected in ((dict(), 30), (dict(iterations=8), 8)):
        cfg = segmentation_config()
        demo(cfg, **arguments)
        assert cfg.train_cfg.max_iters == expected


@pytest.mark.parametrize('value', ['0', '-5', '1.5', 'many', ''])
def test_bad_iterations_in_the_environment(demo, monkeypatch, value, segmentation_config):
    monkeypatch.setenv('MMLK_DEMO_ITERS', value)
    cfg = segmentation_config()
    before = cfg.to_dict()
    with pytest.raises(UsageError, match=rf"MMLK_DEMO_ITERS must be a positive number of iterations, got '{value}'"):
        demo(cfg)
    assert cfg.to_dict() == before


def test_data_goes_where_the_environment_says(monkeypatch, demo_data, demo_root, segmentation_config):
    monkeypatch.setenv('MMLK_DEMO_ROOT', str(demo_root))
    cfg = segmentation_config()
    apply_demo(cfg)
    assert cfg.train_dataloader.dataset.data_root == str(demo_data)


def test_data_goes_below_the_current_folder_otherwise(monkeypatch, tmp_path, segmentation_config):
    asked = []
    data = replace(
        DEMO_DATA['ADE20KDataset'], generate=lambda root, **counts: asked.append((str(root), counts)) or root
    )
    monkeypatch.setitem(DEMO_DATA, 'ADE20KDataset', data)
    apply_demo(segmentation_config())
    assert asked == [('data/demo', dict(size=128, num_train=240, num_val=40))]


def test_other_host_is_one_sentence(demo, segmentation_config):
    cfg = segmentation_config(default_scope='mmocr')
    with pytest.raises(UsageError, match=r"supports configs with default_scope .*'mmseg'.*, got 'mmocr'"):
        demo(cfg)


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        ('PascalVOCDataset', 'on ADE20KDataset, CityscapesDataset, but val_dataloader uses PascalVOCDataset'),
        (
            'CityscapesDataset',
            'one dataset type in all loaders, got train_dataloader ADE20KDataset, val_dataloader City',
        ),
    ],
)
def test_other_data_set_is_one_sentence_and_changes_nothing(demo, segmentation_config, kind, message):
    cfg = segmentation_config(**{'val_dataloader.dataset.type': kind})
    before = cfg.to_dict()
    with pytest.raises(UsageError, match=message):
        demo(cfg)
    assert cfg.to_dict() == before


def test_loop_without_length_is_one_sentence(demo, segmentation_config):
    cfg = segmentation_config()
    cfg.train_cfg = dict(type='IterBasedTrainLoop')
    with pytest.raises(UsageError, match='train_cfg to set max_iters or max_epochs'):
        demo(cfg)


def test_unwritable_data_folder_changes_nothing(tmp_path, segmentation_config):
    (tmp_path / 'file').write_text('here first')
    cfg = segmentation_config()
    before = cfg.to_dict()
    with pytest.raises(UsageError, match='cannot be written'):
        apply_demo(cfg, data_root=tmp_path / 'file')
    assert cfg.to_dict() == before

"""The host-independent part of ``--demo``: schedules of every kind, pretraining, norms."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.optim import PolyLR  # noqa: F401  importing the package registers the schedulers
from mmengine.registry import PARAM_SCHEDULERS

from mmlk.datasets.demo.recipe import DemoSettings, read_iterations, shorten_recipe
from mmlk.errors import UsageError


def settings(iterations=120, cuda=False):
    return DemoSettings(root=Path('demo'), iterations=iterations, cuda=cuda)


def shortened(iterations=120, **cfg):
    cfg = deepcopy(cfg)
    shorten_recipe(cfg, settings(iterations))
    return cfg


ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
EPOCHS = dict(by_epoch=True, max_epochs=300, val_interval=1)


@pytest.mark.parametrize(
    'iterations, epochs, images',
    [(1, 1, 4), (10, 1, 40), (60, 1, 240), (61, 2, 124), (120, 2, 240), (150, 3, 200)],
)
def test_epochs_come_to_the_iterations_wanted(iterations, epochs, images):
    asked = settings(iterations)
    assert (asked.epochs, asked.images_per_epoch) == (epochs, images)
    steps = asked.epochs * asked.images_per_epoch // asked.batch_size
    assert iterations <= steps < iterations + epochs


def test_epoch_based_loop():
    cfg = shortened(
        train_cfg=EPOCHS,
        param_scheduler=[
            dict(type='LinearLR', by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', T_max=280, by_epoch=True, begin=20, end=300),
        ],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=10)),
    )
    assert cfg['train_cfg'] == dict(by_epoch=True, max_epochs=2, val_interval=2)
    warm_up, cosine = cfg['param_scheduler']
    assert warm_up == dict(type='LinearLR', by_epoch=False, begin=0, end=12)
    assert cosine == dict(type='CosineAnnealingLR', by_epoch=False, begin=12, end=120, T_max=108)
    assert cfg['default_hooks']['checkpoint']['interval'] == 2


def test_warm_up_in_iterations_among_epochs():
    cfg = shortened(
        train_cfg=EPOCHS,
        param_scheduler=[
            dict(type='LinearLR', by_epoch=False, begin=0, end=500),
            dict(type='MultiStepLR', by_epoch=True, begin=0, end=300, milestones=[150, 225]),
        ],
    )
    assert (cfg['param_scheduler'][0]['begin'], cfg['param_scheduler'][0]['end']) == (0, 12)
    assert cfg['param_scheduler'][1]['milestones'] == [60, 90]


@pytest.mark.parametrize('epochs', [False, True], ids=['iterations', 'epochs'])
@pytest.mark.parametrize(
    'scheduler',
    [
        dict(type='LinearLR', start_factor=0.1, begin=0, end=30),
        dict(type='PolyLR', power=1.0, begin=30, end=300),
        dict(type='CosineAnnealingLR', T_max=270, begin=30, end=300),
        dict(type='CosineAnnealingLR', begin=0, end=300),
        dict(type='MultiStepLR', milestones=[150, 225]),
        dict(type='StepLR', step_size=100),
        dict(type='ExponentialLR', gamma=0.9),
        dict(type='OneCycleLR', eta_max=0.1, total_steps=300),
    ],
    ids=lambda scheduler: scheduler['type'],
)
def test_mmengine_builds_and_steps_what_comes_out(scheduler, epochs):
    """The recipe's length is 300 iterations or epochs; 50 iterations are left of it, in one epoch if in epochs."""
    loop = (
        dict(type='EpochBasedTrainLoop', max_epochs=300) if epochs else dict(type='IterBasedTrainLoop', max_iters=300)
    )
    cfg = shortened(50, train_cfg=loop, param_scheduler=[dict(by_epoch=epochs, **scheduler)])
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.01, momentum=0.9)
    built = PARAM_SCHEDULERS.build(cfg['param_scheduler'][0], default_args=dict(optimizer=optimizer, epoch_length=50))
    rates = []
    for _ in range(50):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        built.step()
    assert not built.by_epoch
    assert len(set(rates)) > 1


def test_schedule_without_warm_up_stays_in_proportion():
    cfg = shortened(
        100,
        train_cfg=ITERATIONS,
        param_scheduler=dict(type='MultiStepLR', by_epoch=False, milestones=[40000, 60000], begin=0, end=80000),
    )
    assert cfg['param_scheduler']['milestones'] == [50, 75]
    assert (cfg['param_scheduler']['begin'], cfg['param_scheduler']['end']) == (0, 100)


def test_three_phases_keep_their_proportions():
    cfg = shortened(
        100,
        train_cfg=ITERATIONS,
        param_scheduler=[
            dict(type='LinearLR', by_epoch=False, begin=0, end=1000),
            dict(type='ConstantLR', by_epoch=False, begin=1000, end=40500),
            dict(type='PolyLR', by_epoch=False, begin=40500, end=80000),
        ],
    )
    assert [(step['begin'], step['end']) for step in cfg['param_scheduler']] == [(0, 10), (10, 55), (55, 100)]


@pytest.mark.parametrize('iterations', [1, 2, 3])
def test_no_span_is_empty(iterations):
    cfg = shortened(
        iterations,
        train_cfg=ITERATIONS,
        param_scheduler=[
            dict(type='LinearLR', by_epoch=False, begin=0, end=1500),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=1500, end=80000, T_max=78500),
        ],
    )
    for step in cfg['param_scheduler']:
        assert step['end'] > step['begin'] >= 0
    assert cfg['param_scheduler'][1]['T_max'] >= 1


def test_dynamic_validation_is_dropped():
    cfg = shortened(train_cfg=dict(**ITERATIONS, val_begin=1000, dynamic_intervals=[(70000, 100)]))
    assert cfg['train_cfg'] == dict(type='IterBasedTrainLoop', max_iters=120, val_interval=120)


def test_moving_average_fits_the_run():
    cfg = shortened(
        train_cfg=ITERATIONS, custom_hooks=[dict(type='EMAHook', momentum=1e-4, interval=8), dict(type='Other')]
    )
    assert cfg['custom_hooks'] == [dict(type='EMAHook', momentum=pytest.approx(1 / 12), interval=1), dict(type='Other')]


def sparse(**settings):
    return dict(type='mmlk.DynamicSparsityHook', **settings)


@pytest.mark.parametrize(
    ('iterations', 'hook', 'expected'),
    [
        (120, sparse(sparsity=0.4, interval=2000), sparse(sparsity=0.4, interval=12)),
        (120, sparse(sparsity=0.4), sparse(sparsity=0.4, interval=12)),
        (120, sparse(sparsity=0.4, interval=5), sparse(sparsity=0.4, interval=5)),
        (2, sparse(sparsity=0.4, interval=100), sparse(sparsity=0.4, interval=1)),
        (120, sparse(interval=100, share_interval=131), sparse(interval=12, share_interval=3)),
        (120, sparse(interval=100, share_interval=1), sparse(interval=12, share_interval=1)),
        (120, sparse(mode='fixed', sparsity=0.4), sparse(mode='fixed', sparsity=0.4)),
        (120, sparse(mode='static'), sparse(mode='static')),
    ],
)
def test_masks_change_within_the_run(iterations, hook, expected):
    cfg = shortened(iterations, train_cfg=ITERATIONS, custom_hooks=[hook])
    assert cfg['custom_hooks'] == [expected]


def test_pretraining_is_forgotten_wherever_it_is():
    model = dict(
        pretrained='torchvision://resnet50',
        backbone=dict(init_cfg=[dict(type='Pretrained', checkpoint='a.pth'), dict(type='TruncNormal', layer='Linear')]),
        neck=dict(init_cfg=dict(type='Xavier', layer='Conv2d')),
        decode_head=[dict(init_cfg=dict(type='mmengine.Pretrained', checkpoint='b.pth'))],
    )
    cfg = shortened(model=model, load_from='c.pth')
    assert cfg['model'] == dict(
        pretrained=None,
        backbone=dict(init_cfg=[dict(type='TruncNormal', layer='Linear')]),
        neck=dict(init_cfg=dict(type='Xavier', layer='Conv2d')),
        decode_head=[dict(init_cfg=None)],
    )
    assert cfg['load_from'] is None


def test_other_norms_stay():
    cfg = shortened(
        model=dict(
            backbone=dict(norm_cfg=dict(type='LN'), conv_norm_cfg=dict(type='SyncBN', requires_grad=True)),
            heads=[dict(norm_cfg=dict(type='GN', num_groups=32)), dict(norm_cfg=dict(type='mmengine.SyncBN'))],
        )
    )
    assert cfg['model']['backbone']['norm_cfg'] == dict(type='LN')
    assert cfg['model']['backbone']['conv_norm_cfg'] == dict(type='BN', requires_grad=True)
    assert cfg['model']['heads'] == [dict(norm_cfg=dict(type='GN', num_groups=32)), dict(norm_cfg=dict(type='BN'))]


def test_config_without_training_is_left_without():
    cfg = shortened(model=dict(type='EncoderDecoder'))
    assert cfg == dict(model=dict(type='EncoderDecoder'), randomness=dict(seed=0))


@pytest.mark.parametrize('value', [0, -1, 'x'])
def test_bad_iterations(value):
    with pytest.raises(UsageError, match='iterations must be a positive number of iterations'):
        read_iterations(value)


@pytest.mark.parametrize('iterations', [1, 2, 3, 10, 120])
def test_short_runs_reach_the_full_rate(iterations):
    """Linear warm-up and decay, as the ADE20K recipe has them, do not leave the rate where warm-up starts."""
    cfg = shortened(
        iterations,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=160000),
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
            dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
        ],
    )
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.5)
    schedulers = [PARAM_SCHEDULERS.build(dict(config, optimizer=optimizer)) for config in cfg['param_scheduler']]
    rates = []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(0.5e-6)
    if iterations > 1:
        assert max(rates) == pytest.approx(0.5)

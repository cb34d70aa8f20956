"""The hook in whole runs: the same numbers as without it, whatever else wraps, averages or resumes the model."""

import re

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import CheckpointLoader, Runner
from numerics import assert_close
from torch import nn
from torch.utils.data import Dataset

import mmlk  # noqa: F401
from mmlk.nn import LargeKernelConv2d

HOOK = dict(type='mmlk.AccelerateHook')


class Pictures(Dataset):
    """Four pictures of noise."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(3, 8, 8, dtype=torch.float64, generator=generator))


class Network(BaseModel):
    """A stem that stays, a convolution to swap, one to leave."""

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.large = nn.Conv2d(4, 4, 9, padding=4, groups=4)
        self.norm = nn.BatchNorm2d(4)
        self.strided = nn.Conv2d(4, 4, 7, stride=2, padding=3, groups=4)
        self.double()
        self.classes = []

    def forward(self, inputs, mode='tensor'):
        x = torch.stack(inputs)
        x = self.strided(self.norm(self.large(self.stem(x)).relu()))
        # Only while it runs is it known what the hook has done by then.
        self.classes.append(type(self.large))
        return dict(loss=x.square().mean()) if mode == 'loss' else [x.detach()]


class Mean(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(sample.mean().item() for sample in data_samples)

    def compute_metrics(self, results):
        return dict(mean=sum(results) / len(results))


def runner(folder, *hooks, model=None, epochs=2, **options):
    torch.manual_seed(0)
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=Pictures(),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    training = dict(
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=[Mean()],
    )
    testing = dict(test_dataloader=loader, test_cfg=dict(), test_evaluator=[Mean()])
    parts = testing if options.pop('test_only', False) else training | testing
    return Runner(
        model=model or Network(),
        work_dir=str(folder),
        custom_hooks=[dict(hook) for hook in hooks],
        default_scope='mmengine',
        experiment_name=folder.name + str(len(MMLogger._instance_dict)),
        randomness=dict(seed=0),
        **parts,
        **options,
    )


def weights(runner):
    model = runner.model
    model = model.module if isinstance(model, MMDistributedDataParallel) else model
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_weights(actual, expected):
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_close(actual[name], value, torch.float64)


def log_of(folder):
    return '\n'.join(path.read_text() for path in sorted(folder.rglob('*.log')))


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """Folder and weights of a run without the hook."""
    folder = tmp_path_factory.mktemp('plain')
    without = runner(folder)
    without.train()
    return folder, weights(without)


def test_trains_to_the_same_weights(plain, tmp_path):
    with_hook = runner(tmp_path, HOOK)
    with_hook.train()
    assert set(with_hook.model.classes) == {LargeKernelConv2d}
    assert type(with_hook.model.strided) is nn.Conv2d
    assert_same_weights(weights(with_hook), plain[1])
    log = log_of(tmp_path)
    # Once, although every validation asks again.
    assert log.count('accelerate: depthwise nn.Conv2d') == 1
    assert '1 swapped, 0 already swapped, 1 left' in log
    assert re.search(r'swapped 9 x 9: 1 \(large\)\n', log)
    assert re.search(r'left 7 x 7: 1 \(strided\), because stride is \(2, 2\), not \(1, 1\)', log)


@pytest.mark.parametrize(('first', 'second'), [((), (HOOK,)), ((HOOK,), ())], ids=['then with', 'then without'])
def test_resumes_what_was_trained_otherwise(plain, tmp_path, first, second):
    runner(tmp_path, *first, epochs=1).train()
    resumed = runner(tmp_path, *second, resume=True)
    resumed.train()
    assert resumed.epoch == 2
    assert set(resumed.model.classes) == {LargeKernelConv2d if second else nn.Conv2d}
    assert_same_weights(weights(resumed), plain[1])


@pytest.mark.parametrize('hooks_first', [True, False], ids=['before EMA', 'after EMA'])
def test_beside_an_averaged_copy(tmp_path, hooks_first):
    ema = dict(type='EMAHook', momentum=0.3)
    results = []
    for name, hooks in (('plain', [ema]), ('ours', [HOOK, ema] if hooks_first else [ema, HOOK])):
        folder = tmp_path / name
        run = runner(folder, *hooks)
        run.train()
        saved = CheckpointLoader.load_checkpoint(str(folder / 'epoch_2.pth'), map_location='cpu')
        results.append((run.message_hub.get_scalar('val/mean').current(), saved['state_dict'], saved['ema_state_dict']))
    assert set(run.model.classes) == {LargeKernelConv2d}
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-12)
    for actual, expected in zip(results[1][1:], results[0][1:], strict=True):
        assert_same_weights(actual, expected)


def test_tests_only(plain, tmp_path):
    folder, _ = plain
    results = []
    for hooks in ((), (HOOK,)):
        test = runner(tmp_path / str(len(hooks)), *hooks, test_only=True, load_from=str(folder / 'epoch_2.pth'))
        results.append(test.test()['mean'])
        assert set(test.model.classes) == {LargeKernelConv2d if hooks else nn.Conv2d}
    assert results[1] == pytest.approx(results[0], rel=1e-12)


def test_validates_only(tmp_path):
    validation = runner(tmp_path, HOOK)
    validation.val()
    assert set(validation.model.classes) == {LargeKernelConv2d}


def test_wrapped_for_several_processes(plain, tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path / "store"}', rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        wrapped = MMDistributedDataParallel(Network(), device_ids=None)
        distributed = runner(tmp_path, HOOK, model=wrapped)
        distributed.train()
    finally:
        dist.destroy_process_group()
    assert set(wrapped.module.classes) == {LargeKernelConv2d}
    assert_same_weights(weights(distributed), plain[1])
    # Named as the checkpoint names it, without the wrapper.
    assert 'swapped 9 x 9: 1 (large)' in log_of(tmp_path)


def test_weights_are_initialised_first(tmp_path):
    """MMEngine finds what to initialise by the names of a class and its direct bases."""
    init_cfg = dict(type='Constant', layer='_ConvNd', val=0.25)
    run = runner(tmp_path, HOOK, model=Network(init_cfg), epochs=0)
    run.train()
    assert isinstance(run.model.large, LargeKernelConv2d)
    assert (run.model.large.weight == 0.25).all()


def test_options_from_a_config(tmp_path):
    cfg = Config.fromstring(
        "custom_hooks = [dict(type='mmlk.AccelerateHook', min_kernel=11, backend='reference')]", '.py'
    )
    run = runner(tmp_path, *cfg.custom_hooks)
    run.val()
    assert set(run.model.classes) == {nn.Conv2d}
    assert 'WARNING - accelerate: nothing to do, found no depthwise nn.Conv2d with a kernel edge >= 11' in log_of(
        tmp_path
    )
    other = runner(tmp_path, dict(HOOK, backend='reference'))
    other.val()
    assert other.model.large.backend == 'reference'

"""A loss that is not finite ends a run, before it gets into the weights, with a message that helps."""

import copy
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import finite_runs
import pytest
import torch
from finite_runs import SGD, Classifier, Files, finite_runner
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from sparse_runs import EMA, Network, Probe
from tool_runner import TINY, run_tool
from torch import nn

from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.segmentation import DEMO_DATA
from mmlk.engine import FiniteLossHook
from mmlk.engine.hooks.finite_loss import NOT_FINITE_STATUS
from mmlk.engine.hooks.finite_loss.report import listed, listed_files, sample_names
from mmlk.errors import TrainingStopped, UsageError

LR = 'lower the learning rate (optim_wrapper.optimizer.lr)'


def stopped(run):
    """The message that a run ends with."""
    with pytest.raises(TrainingStopped) as stop:
        run.train()
    assert stop.value.status == NOT_FINITE_STATUS == 3
    return str(stop.value)


def hook_of(run):
    return next(hook for hook in run.hooks if isinstance(hook, FiniteLossHook))


def finite(model):
    return all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


def snapshots(weights):
    """A probe that keeps the weights after every iteration."""
    return Probe(lambda run, done: weights.append(copy.deepcopy(dict(run.model.named_parameters()))))


def test_layer(tmp_path):
    weights = []
    run = finite_runner(tmp_path, dataset=Files({5: 1000.0}), save_every=2, hooks=[snapshots(weights)])
    message = stopped(run)
    assert message == (
        'the loss is not finite at iteration 3 of 8 (loss_cls is NaN); batch: 4.jpg, 5.jpg; it first appeared in layer '
        'backbone.root (Root), whose inputs are finite (NaN for 5.jpg alone); the last good checkpoint is '
        f'{tmp_path / "iter_2.pth"}; to go on, {LR}, lengthen the warm-up or clip gradients '
        "(optim_wrapper.clip_grad={'max_norm':1.0}), and continue from the checkpoint (--resume)"
    )
    # The step was not taken.
    assert len(weights) == 2
    for name, weight in run.model.named_parameters():
        assert torch.equal(weight, weights[-1][name]), name
    # The second run saw what the first saw, dropped values included, and left no mark.
    first, second = run.model.seen[-2:]
    assert torch.equal(first, second)
    assert len(run.model.seen) == 4
    assert not torch.equal(run.model.seen[0], run.model.seen[1])
    assert run.model.backbone['norm'].num_batches_tracked == 3
    # The log has it too, and all files.
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert re.search(
        r'ERROR - .*the loss is not finite at iteration 3 of 8 \(loss_cls is NaN\); batch: 4.jpg, 5.jpg\n', log
    )


@pytest.mark.parametrize(
    ('arguments', 'where', 'cure'),
    [
        (
            dict(dataset=Files({4: float('nan')})),
            'the model was given pictures that are not finite already (NaN for 4.jpg alone)',
            'correct or remove these files',
        ),
        (
            dict(dataset=Files(labels={4: 255, 5: 255})),
            'it first appeared in layer loss (CrossEntropyLoss), computed from finite predictions (NaN)',
            'check the labels of these files',
        ),
    ],
    ids=['pictures', 'labels'],
)
def test_causes(arguments, where, cure, tmp_path):
    message = stopped(finite_runner(tmp_path, **arguments))
    assert 'at iteration 3 of 8 (loss_cls is NaN); batch: 4.jpg, 5.jpg; ' + where in message
    assert f'; there is no checkpoint of this run yet; to go on, {cure}' in message
    assert message.endswith(', and start again')


def test_large_steps(tmp_path):
    message = stopped(finite_runner(tmp_path, optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e30))))
    assert re.search(r'at iteration \d of 8 .* first appeared in layer \S+ \(\w+\), whose inputs are finite', message)
    assert LR in message


def test_loss_of_the_model_itself(tmp_path):
    """Computed by a function, not by a layer; and samples without names."""
    model = Network()
    model.infinite_at = range(3, 100)
    message = stopped(finite_runner(tmp_path, model))
    assert '(loss is infinite); batch: sample 0 of the batch, sample 1 of the batch; it first appeared in' in message
    assert 'in the loss of the model itself (Network), after its layers, computed from finite predictions' in message


def test_finite_when_run_again(tmp_path):
    model = Network()
    model.infinite_at = (3,)
    message = stopped(finite_runner(tmp_path, model))
    assert 'the same batch gave a finite loss when it was run again, so the layer is not known' in message


def test_gradient_that_is_not_finite(tmp_path):
    """The loss is finite, the weights are not; the file to blame is of the iteration before."""
    run = finite_runner(tmp_path, Classifier(bad_gradient=True), Files({5: 60.0}), save_every=2)
    message = stopped(run)
    assert (
        'at iteration 4 of 8 (loss_cls is NaN); batch: 6.jpg, 7.jpg; after the optimizer step of iteration 3' in message
    )
    assert (
        'iteration 3 (batch: 4.jpg, 5.jpg) 4 parameters are not finite, the first of them backbone.norm.weight; the '
        'first that they spoil is layer backbone.norm (BatchNorm2d)'
    ) in message
    assert f'the last good checkpoint is {tmp_path / "iter_2.pth"}' in message


@pytest.mark.parametrize('kind', ['CheckpointHook', 'mmlk.CheckpointHook'])
def test_no_checkpoint_with_such_weights(kind, tmp_path):
    run = finite_runner(
        tmp_path,
        Classifier(bad_gradient=True),
        Files({5: 60.0}),
        hooks=[EMA, dict(type=kind, by_epoch=False, interval=1, max_keep_ckpts=2)],
    )
    message = stopped(run)
    assert message.startswith(
        'no checkpoint is written at iteration 3, because 4 of its weights and statistics are not finite: '
        'backbone.norm.weight, backbone.norm.bias, backbone.conv.weight and 1 more; the last good checkpoint is '
        f'{tmp_path / "iter_2.pth"}; to go on, {LR}'
    )
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_2.pth')
    assert not list(tmp_path.glob('*.part'))
    saved = torch.load(tmp_path / 'iter_2.pth', weights_only=False)['state_dict']
    assert all(bool(torch.isfinite(value).all()) for value in saved.values())


def test_checkpoints_of_an_earlier_run_do_not_count(tmp_path):
    finite_runner(tmp_path, save_every=4).train()
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_8.pth')
    bad = dict(dataset=Files({5: 1000.0}))
    assert 'there is no checkpoint of this run yet' in stopped(finite_runner(tmp_path, **bad))
    # A resumed run has that from which it came, until it writes its own.
    run = finite_runner(tmp_path, dataset=Files(dict.fromkeys(range(16), 1000.0)), resume=True, length=12)
    assert 'at iteration 9 of 12 (loss_cls is NaN)' in (message := stopped(run))
    assert f'the last good checkpoint is {tmp_path / "iter_8.pth"}' in message


def test_by_epoch(tmp_path):
    run = finite_runner(tmp_path, dataset=Files({5: 1000.0}), by_epoch=True, length=2, save_every=1)
    assert 'of 16 (loss_cls is NaN)' in stopped(run)


def test_accumulated_gradients(tmp_path):
    """Before the step to which the loss belongs."""
    run = finite_runner(tmp_path, dataset=Files({5: 1000.0}), optim_wrapper=dict(optimizer=SGD, accumulative_counts=4))
    before = copy.deepcopy(dict(run.model.named_parameters()))
    assert 'at iteration 3 of 8 (loss_cls is NaN); batch: 4.jpg, 5.jpg; it first appeared' in stopped(run)
    for name, weight in run.model.named_parameters():
        assert torch.equal(weight, before[name]), name


def amp(**arguments):
    return dict(type='CpuAmpOptimWrapper', optimizer=SGD, **arguments)


def test_loss_scaler_may_skip_steps(tmp_path):
    """Two in a row are part of the method, three are not, and a step in between starts the count anew."""
    model, weights = Network(frozen_norm=True), []
    model.infinite_at = (2, 3, 5, 6, 7, 8, 9, 10)
    hook = dict(type='mmlk.FiniteLossHook', max_skipped=3)
    run = finite_runner(tmp_path, model, hook=hook, optim_wrapper=amp(), hooks=[snapshots(weights)])
    message = stopped(run)
    assert 'at iteration 7 of 8 (loss is infinite), and no step was taken since 3 such losses; batch:' in message
    assert torch.equal(weights[0]['head.0.weight'], weights[2]['head.0.weight'])
    assert not torch.equal(weights[2]['head.0.weight'], weights[3]['head.0.weight'])
    assert torch.equal(weights[3]['head.0.weight'], run.model.head[0].weight)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert log.count('the loss is not finite at iteration') == 3
    assert 'at iteration 5 (loss is infinite); the loss scaler skips the step' in log


def test_statistics_of_norms_are_spoilt_for_good(tmp_path):
    """No step can mend them, so there is nothing to wait for."""
    message = stopped(finite_runner(tmp_path, dataset=Files({5: 1000.0}), optim_wrapper=amp()))
    assert (
        'at iteration 3 of 8 (loss_cls is NaN); it is in backbone.norm.running_mean, backbone.norm.running_var for '
        'good, although the loss scaler skips the step; batch: 4.jpg, 5.jpg; it first appeared in layer backbone.root'
    ) in message


def test_float16(tmp_path):
    """The second run has the precision of the first."""

    class Large(Classifier):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return super().forward(inputs * 3e5, data_samples, mode)

    model = Large()
    model.backbone['root'] = nn.Conv2d(3, 3, 1)
    hook = dict(type='mmlk.FiniteLossHook', max_skipped=1)
    message = stopped(finite_runner(tmp_path, model, hook=hook, optim_wrapper=amp(dtype='float16')))
    assert 'it first appeared in layer backbone.root (Conv2d), whose inputs are finite' in message
    assert "to go on, float16 ends at 65504: train in bfloat16 (optim_wrapper.dtype='bfloat16')" in message
    finite_runner(tmp_path / 'bfloat16', copy.deepcopy(model), hook=hook, optim_wrapper=amp()).train()


class Two(BaseModel):
    """Two parts with an optimizer each, trained in turn; the loss of the second is NaN from a step on."""

    def __init__(self, nan_at, through_forward):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 1), nn.Linear(3, 1)
        self.nan_at, self.through_forward, self.steps = nan_at, through_forward, 0

    def forward(self, inputs, labels, part='first', mode='tensor'):
        loss = getattr(self, part)(torch.stack(inputs).mean((2, 3))).square().mean()
        nan = part == 'second' and self.steps >= self.nan_at
        return {f'loss_{part}': loss * (float('nan') if nan else 1)}

    def train_step(self, data, optim_wrapper):
        self.steps += 1
        log = {}
        for part in ('first', 'second'):
            losses = self(**data, part=part, mode='loss') if self.through_forward else self.forward(**data, part=part)
            loss, found = self.parse_losses(losses)
            optim_wrapper[part].update_params(loss)
            log |= found
        return log


@pytest.mark.parametrize('through_forward', [True, False])
def test_several_optimizers(through_forward, tmp_path):
    model = Two(3, through_forward)
    wrappers = {
        name: OptimWrapper(torch.optim.SGD(getattr(model, name).parameters(), lr=0.1)) for name in ('first', 'second')
    }
    run = finite_runner(tmp_path, model)
    run.optim_wrapper = OptimWrapperDict(**wrappers)
    message = stopped(run)
    assert 'at iteration 3 of 8 (loss_second is NaN)' in message or not through_forward
    # Where the losses do not come from a call of the model, they are seen after the step.
    assert finite(model) == through_forward
    assert ('trains without calling itself for its losses' in message) != through_forward


def test_compiled(tmp_path):
    run = finite_runner(tmp_path, dataset=Files({5: 1000.0}))
    run.model.forward = torch.compile(run.model.forward, backend='eager')
    assert 'it first appeared in layer backbone.root (Root), whose inputs are finite (NaN for 5.jpg' in stopped(run)


def test_two_processes_stop_together(tmp_path):
    done = subprocess.run([sys.executable, finite_runs.__file__, tmp_path], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = [torch.load(tmp_path / f'process{rank}.pth', weights_only=True) for rank in range(2)]
    assert [each['status'] for each in found] == [3, 3]
    assert found[1]['message'] == ''
    assert found[0]['message'].startswith('the loss is not finite on process 0 at iteration 3 of 8 (loss_cls is NaN)')
    assert 'batch: 8.jpg, 10.jpg; it first appeared in layer backbone.root' in found[0]['message']
    for name, weight in found[0]['weights'].items():
        if 'running' not in name:
            assert torch.isfinite(weight).all()
            assert torch.equal(weight, found[1]['weights'][name]), name


def test_nothing_is_changed_where_all_is_finite(tmp_path):
    """Weights, copies of the model and validation are what they are without the hook."""
    copies = []
    probe = Probe(lambda run, done: copies.append((copy.deepcopy(run.model), pickle.dumps(run.model.head))))
    runs = []
    for name, more in (('with', dict(hooks=[probe])), ('without', dict(hook=dict(type='IterTimerHook')))):
        # Seeds the generators.
        runs.append(finite_runner(tmp_path / name, **more))
        runs[-1].train()
    for name, weight in runs[0].model.state_dict().items():
        assert torch.equal(weight, runs[1].model.state_dict()[name]), name
    hook = hook_of(runs[0])
    assert not hook._handles and not hook._watches and hook._call is None
    assert not runs[0].model._forward_hooks and not runs[0].model._forward_pre_hooks
    # A copy made during training holds the hook and not a copy of it.
    (held,) = {each.__self__ for model, _ in copies for each in model._forward_hooks.values()}
    assert held is hook
    copies[0][0].train()(torch.zeros(2, 3, 8, 8), [], mode='tensor')
    assert not hook._watches


def test_masks_of_minus_infinity_may_be_saved(tmp_path):
    model = Classifier()
    model.register_buffer('mask', torch.full((2, 2), float('-inf')).triu(1))
    finite_runner(tmp_path, model, save_every=4).train()
    assert (tmp_path / 'iter_8.pth').exists()


@pytest.mark.parametrize('value', [0, -1, 1.5, True, '10'])
def test_bad_argument(value):
    with pytest.raises(UsageError, match=f'needs a positive integer as max_skipped, got {value!r}'):
        FiniteLossHook(max_skipped=value)


def test_names_of_samples():
    sample = Files()[3]['data_samples']
    number = copy.deepcopy(sample)
    number.set_metainfo(dict(img_path=None, img_id=7))
    assert sample_names(dict(inputs=[1, 2], data_samples=[sample, number])) == ['3.jpg', 'img_id 7']
    assert sample_names(dict(data_samples=dict(a=[sample], b=[sample]))) == ['3.jpg', '3.jpg']
    assert sample_names((torch.zeros(2, 3), [sample])) == ['3.jpg']
    assert sample_names((torch.zeros(2, 3), torch.zeros(2))) == [f'sample {i} of the batch' for i in range(2)]
    assert sample_names(None) == sample_names([]) == sample_names({}) == []
    assert listed('abcdefghij') == 'a, b, c, d, e, f, g, h and 2 more'
    assert listed_files(['/a/b/1.jpg', '/a/b/c/2.jpg']) == '1.jpg, c/2.jpg in /a/b'
    assert listed_files(['/a/1.jpg', 'b/2.jpg']) == '/a/1.jpg, b/2.jpg'
    assert listed_files(['/a/1.jpg', '/b/2.jpg']) == '/a/1.jpg, /b/2.jpg'
    assert listed_files(['a/1.jpg', 'img_id 2']) == 'a/1.jpg, img_id 2'
    assert listed_files(['a/1.jpg']) == 'a/1.jpg'
    assert listed_files([]) == ''


@pytest.mark.parametrize('host', ['imagenet/pelk_t', 'ade20k/upernet_pelk_t', 'coco/cascade_mask_rcnn_pelk_t'])
def test_base_configs_have_it(host, repository):
    cfg = Config.fromfile(repository / 'configs' / f'{host}.py')
    assert cfg.default_hooks.finite_loss == dict(type='mmlk.FiniteLossHook')


def test_command_line(repository, tmp_path, monkeypatch):
    """A learning rate that no network stands: one sentence, the files of the demo, and checkpoints that are finite."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv('MMLK_DEMO_ROOT', str(tmp_path / 'demo'))
    monkeypatch.setenv('MMLK_DEMO_ITERS', '6')
    monkeypatch.setitem(
        DEMO_DATA,
        'ADE20KDataset',
        replace(
            DEMO_DATA['ADE20KDataset'],
            generate=lambda root, size, **_: generate_ade20k(root, num_train=8, num_val=8, size=size, progress=False),
        ),
    )
    result = run_tool(
        'train.py', 'configs/ade20k/upernet_pelk_t.py', '--demo', '--work-dir', tmp_path / 'run', '--cfg-options',
        *TINY, 'optim_wrapper.optimizer.lr=1e30', 'default_hooks.checkpoint.interval=1',
        'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
        'val_dataloader.persistent_workers=False',
    )  # fmt: skip
    assert result.code == 3, result.err[-2000:]
    (line,) = [line for line in result.err.splitlines() if line.startswith('error: ')]
    assert 'Traceback' not in result.err
    assert re.match(r'error: the loss is not finite at iteration \d of 6 \(\S*loss\S* is (NaN|infinite)', line)
    assert re.search(r'; batch: (\w+\.jpg, ){3}\w+\.jpg in \S+/images/training; ', line)
    assert LR in line
    saved = sorted(tmp_path.glob('run/iter_*.pth'))
    assert saved
    assert str(saved[-1]) in line
    for path in saved:
        state = torch.load(path, weights_only=False)['state_dict']
        assert all(bool(torch.isfinite(value).all()) for value in state.values())

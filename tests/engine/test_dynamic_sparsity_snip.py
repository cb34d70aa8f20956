"""SNIP takes one batch and leaves no trace; any host's model will do."""

import random

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from sparse_runs import Network, Pictures, hook_of, runner, sparsity
from tiny_models import tiny_config
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

import mmlk.analysis.sparsity_figure
from mmlk.benchmarks.synthetic import make_data
from mmlk.engine.hooks.dynamic_sparsity import snip as dynamic_sparsity_snip
from mmlk.engine.hooks.dynamic_sparsity.snip import draw_batch, score_one_batch
from mmlk.errors import UsageError
from mmlk.sparsity import generator_for, select_parameters


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(mmlk.analysis.sparsity_figure, 'draw_density', lambda densities: np.zeros((2, 2, 3), np.uint8))


class Noisy(Pictures):
    """Pictures that draw from every generator there is."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        return item | dict(inputs=item['inputs'] + noise)


def loader_of(dataset, batch_size=4):
    def collate(items):
        return {key: [item[key] for item in items] for key in items[0]}

    return DataLoader(dataset, batch_size, collate_fn=collate)


class Plain:
    """An optimizer wrapper of which only the context is asked for."""

    def optim_context(self, model):
        from contextlib import nullcontext

        return nullcontext()


def score(model, dataset=None, seed=0):
    parameters = select_parameters(model)
    return score_one_batch(model, parameters, loader_of(dataset or Noisy()), Plain(), seed)


def states():
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


def test_no_trace():
    model = Network().eval()
    model.head[0].weight.grad = torch.full((5, 16), 3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_states = states()
    first = score(model)
    assert states() == random_states
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not model.training
    assert torch.equal(model.head[0].weight.grad, torch.full((5, 16), 3.0))
    assert model.head[0].bias.grad is None
    # Whatever the generators are at, the same seed gives the same scores.
    random.random(), np.random.rand(), torch.rand(3)
    again, other = score(model), score(model, seed=1)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first['head.0.weight'], other['head.0.weight'])


def test_scores_are_those_of_the_batch():
    """Against |w * g| of an ordinary backward pass in training mode on the same pictures."""
    model = Network()
    scores = score(model, Pictures(), seed=5)
    data = Pictures()
    order = torch.randperm(16, generator=generator_for(5, 'snip', 0))[:4].tolist()
    batch = dict(inputs=[data[i]['inputs'] for i in order], labels=[data[i]['labels'] for i in order])
    model.train()
    model(**batch, mode='loss')['loss'].backward()
    for name, parameter in select_parameters(model).items():
        assert torch.allclose(scores[name], (parameter * parameter.grad).abs(), rtol=1e-5, atol=1e-9), name


def test_every_process_has_pictures_of_its_own(monkeypatch):
    drawn = []
    for rank in range(4):
        monkeypatch.setattr(dynamic_sparsity_snip, 'get_rank', lambda rank=rank: rank)
        data = Pictures(size=14)
        draw_batch(loader_of(data), seed=0)
        drawn.append(data.reads)
    assert all(len(reads) == 4 for reads in drawn)
    # 16 of 14 pictures: all of them, then again from the first.
    assert len({index for reads in drawn for index in reads}) == 14
    assert drawn[3][2:] == drawn[0][:2]


def test_training_is_that_of_other_masks(tmp_path):
    """Order of the data and random states are those of a run that never scored anything."""
    reads, randoms = [], []
    for init in ('uniform', 'snip'):
        data = Noisy()
        run = runner(tmp_path / init, sparsity(init=init), dataset=data, length=6)
        run.train()
        reads.append([data.reads[4 * (init == 'snip') // 2 :]] if init == 'snip' else [data.reads])
        randoms.append(states())
    assert reads[0] == reads[1]
    assert randoms[0] == randoms[1]


def test_data_without_a_length(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield Pictures()[0]

    with pytest.raises(UsageError, match="init='snip' draws samples .* but Stream has no length: take init='erk'"):
        draw_batch(DataLoader(Stream()), seed=0)


def test_scores_that_are_not_finite(tmp_path):
    model = Network()
    nn.init.constant_(model.head[0].weight, float('nan'))
    with pytest.raises(UsageError, match='The scores of .* must be finite, got NaN or infinity'):
        runner(tmp_path, sparsity(init='snip'), model=model, length=1).train()


def test_layers_without_a_gradient():
    """Reentrant checkpointing hides them; silently, they would lose all their weights."""

    class Saving(Network):
        def forward(self, inputs, labels, mode='tensor'):
            x = torch.stack(inputs).requires_grad_()
            x = checkpoint(self.backbone, x, use_reentrant=True)
            return dict(loss=self.head(x.mean((2, 3))).square().mean())

    with pytest.raises(UsageError, match='a gradient of every layer in scope, and 3 of 4, such as backbone.0.weight'):
        score(Saving())


def test_mixed_precision(tmp_path):
    """Scores under autocast are those of float32 up to its rounding."""
    densities = []
    for wrapper in (dict(), dict(type='CpuAmpOptimWrapper')):
        wrapper = wrapper | dict(optimizer=dict(type='SGD', lr=0.1))
        run = runner(tmp_path / str(len(densities)), sparsity(init='snip'), optim_wrapper=wrapper, length=1)
        run.train()
        densities.append(hook_of(run).training.density())
    for name, density in densities[0].items():
        assert densities[1][name] == pytest.approx(density, abs=0.05)


# --- the hosts

PELK = dict(type='mmlk.PeLK', arch='t', depths=(1, 1, 1, 1), width_factor=1 / 12, kernel_size=(7, 7, 5, 5),
            center_radius=1, init_cfg=None)  # fmt: skip


class Batch:
    """A data set of synthetic samples of a host, whose collate function is the identity."""

    def __init__(self, host, cfg):
        torch.manual_seed(0)
        self.data = make_data(host, cfg, 2, (64, 64))

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return index


def host_scores(host, cfg, seed=0):
    init_default_scope(host)
    torch.manual_seed(1)
    model = MODELS.build(cfg)
    batch = Batch(host, cfg)
    parameters = select_parameters(model)
    loader = DataLoader(batch, 2, collate_fn=lambda indices: batch.data)
    return model, score_one_batch(model, parameters, loader, Plain(), seed)


def test_classifier_is_scored_on_hard_labels(repository):
    """As if the recipe had neither mixup and CutMix nor label smoothing, which it has again afterwards."""
    from mmengine.config import Config

    cfg = Config.fromfile(repository / 'configs/imagenet/pelk_t.py')
    cfg.model.backbone.update(PELK, drop_path_rate=0.0)
    cfg.model.head.in_channels = 64
    cfg.model.data_preprocessor = dict(cfg.data_preprocessor)
    assert cfg.model.train_cfg.augments and cfg.model.head.loss.type == 'LabelSmoothLoss'
    model, scores = host_scores('mmpretrain', cfg.model)
    assert type(model.head.loss_module).__name__ == 'LabelSmoothLoss'
    assert model.data_preprocessor.batch_augments is not None and model.data_preprocessor.to_onehot
    assert 'head.fc.weight' in scores
    plain = cfg.model.copy()
    plain.train_cfg = None
    plain.head = dict(plain.head, loss=dict(type='CrossEntropyLoss'))
    _, expected = host_scores('mmpretrain', plain)
    for name, value in scores.items():
        assert torch.equal(value, expected[name]), name


def test_segmentor(repository):
    from mmengine.config import Config

    cfg = Config.fromfile(repository / 'configs/ade20k/upernet_pelk_t.py').model
    cfg.backbone.update(PELK)
    for head, channels in (('decode_head', [8, 16, 32, 64]), ('auxiliary_head', 32)):
        cfg[head].update(in_channels=channels, channels=8, norm_cfg=dict(type='BN'))
    cfg.data_preprocessor.size = (64, 64)
    model, scores = host_scores('mmseg', cfg)
    assert {name.split('.')[0] for name in scores} == {'backbone'}
    assert sum(float(value.sum()) for value in scores.values()) > 0
    assert model.decode_head.bottleneck.bn.num_batches_tracked == 0


def test_detector(repository, monkeypatch):
    monkeypatch.chdir(repository)
    _, scores = host_scores('mmdet', tiny_config('mmdet', 'pelk').model)
    assert {name.split('.')[0] for name in scores} == {'backbone'}
    assert sum(float(value.sum()) for value in scores.values()) > 0

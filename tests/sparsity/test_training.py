"""The pieces together, on layers of eight weights."""

import pytest
import torch
from torch import nn

from mmlk.sparsity import ConstantPruneRate, CosinePruneRate, Kernels, SparseTraining, UpdateSchedule

WEIGHT = [5.0, -1.0, 2.0, -8.0, 3.0, 0.5, -4.0, 7.0]
MASK = [1, 1, 0, 1, 0, 1, 1, 0]


def parameter(values=WEIGHT, shape=(2, 4)):
    return nn.Parameter(torch.tensor(values, dtype=torch.float32).view(shape))


def state_of(masks, steps=0, updates_done=0, dense=()):
    masks = {name: torch.tensor(mask, dtype=torch.bool).view(shape) for name, (mask, shape) in masks.items()}
    return {'steps': steps, 'updates_done': updates_done, 'masks': masks, 'dense': list(dense)}


def training_of(weight, mask=MASK, rate=0.4, interval=1, **settings):
    training = SparseTraining(
        {'w': weight}, prune_rate=ConstantPruneRate(rate), updates=UpdateSchedule(interval), **settings
    )
    training.load_state_dict(state_of({'w': (mask, weight.shape)}))
    return training


def bits(mask):
    return mask.flatten().int().tolist()


def test_apply_sets_masked_weights_to_zero():
    weight = parameter()
    training_of(weight)
    assert weight.flatten().tolist() == [5, -1, 0, -8, 0, 0.5, -4, 0]


def test_apply_to_averaged_weights():
    training = training_of(parameter())
    average = torch.ones(2, 4)
    training.apply({'w': average})
    assert bits(average) == MASK


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_masks_follow_weights_of_another_type(dtype):
    weight = parameter()
    training = training_of(weight, interval=2)
    training.after_step()
    weight.data = weight.data.to(dtype) + 10
    training.after_step()
    assert weight.dtype == dtype
    assert weight[~training.masks['w']].eq(0).all()
    assert training.masks['w'].sum() == 5


def test_memory_order_makes_no_difference():
    torch.manual_seed(0)
    values = torch.randn(4, 3, 2, 2)
    masks = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(values.clone().to(memory_format=memory_format))
        training = SparseTraining({'w': weight}, prune_rate=ConstantPruneRate(0.5), updates=UpdateSchedule(1))
        training.init_random({'w': 0.5})
        training.after_step()
        assert weight.is_contiguous(memory_format=memory_format)
        assert weight[~training.masks['w']].eq(0).all()
        masks.append(training.masks['w'])
    assert masks[0].equal(masks[1])


def test_an_update_by_gradient():
    """Of five active, ceil(0.4 * 5) = 2 go: 0.5 and 1; the largest gradients of the inactive come: 9 and 8."""
    weight = parameter()
    training = training_of(weight, growth='gradient')
    weight.grad = torch.tensor([0.0, 8.0, 1.0, 0.0, -9.0, 0.0, 0.0, 2.0]).view(2, 4)
    report = training.after_step()
    assert bits(training.masks['w']) == [1, 1, 0, 1, 1, 0, 1, 0]
    assert weight.flatten().tolist() == [5, -1, 0, -8, 0, 0, -4, 0]
    assert (report.step, report.index, report.prune_rate) == (1, 1, 0.4)
    assert (report.pruned, report.grown) == (2, 2)
    assert report.layers['w'].density == 5 / 8


def test_gradient_growth_needs_gradients():
    training = training_of(parameter(), growth='gradient')
    with pytest.raises(ValueError, match="growth='gradient' needs the gradient of w at the update, got none"):
        training.after_step()


def test_random_growth_keeps_the_count_and_starts_at_zero():
    weight = parameter(torch.arange(1.0, 65).tolist(), (8, 8))
    training = training_of(weight, [1, 0] * 32, rate=0.5)
    before = training.masks['w'].clone()
    report = training.after_step()
    after = training.masks['w']
    assert after.sum() == before.sum() == 32
    assert report.layers['w'].pruned == report.layers['w'].grown == 16
    # The larger half stays; what is new is zero.
    assert after.flatten()[32::2].all()
    new = after & ~before
    assert new.any()
    assert not weight[new].any()
    assert not weight[~after].any()


def test_authors_growth_is_right_on_average():
    weight = parameter(torch.ones(4096).tolist(), (64, 64))
    training = training_of(weight, [1, 0] * 2048, rate=0.5, exact=False)
    counts = []
    for _ in range(20):
        training.load_state_dict(state_of({'w': ([1, 0] * 2048, (64, 64))}, updates_done=len(counts)))
        report = training.after_step()
        counts.append(int(training.masks['w'].sum()))
        assert report.layers['w'].pruned == 1024
        assert counts[-1] - 1024 == report.layers['w'].grown
    # Binomial of 3072 draws with probability 1 / 3: deviation 26 of one count, 6 of the mean.
    assert len(set(counts)) > 5
    assert sum(counts) / 20 == pytest.approx(2048, abs=24)


def test_updates_follow_their_schedule():
    weight = parameter(torch.randn(64).tolist(), (8, 8))
    training = SparseTraining({'w': weight}, prune_rate=CosinePruneRate(0.5, 8), updates=UpdateSchedule(3, until=8))
    training.init_random({'w': 0.5})
    reports = [training.after_step() for _ in range(10)]
    assert [report.step for report in reports if report] == [3, 6]
    assert [report.index for report in reports if report] == [1, 2]
    assert reports[5].prune_rate == CosinePruneRate(0.5, 8)(6)
    assert (training.steps, training.updates_done) == (10, 2)


def test_masks_without_updates_never_change():
    weight = parameter()
    training = SparseTraining({'w': weight})
    training.init_random({'w': 0.5})
    mask = training.masks['w'].clone()
    for _ in range(5):
        weight.data.add_(1)
        assert training.after_step() is None
        assert weight[~mask].eq(0).all()
    assert training.masks['w'].equal(mask)


@pytest.mark.parametrize(
    ('make', 'settings'), [(torch.optim.AdamW, {'lr': 0.1}), (torch.optim.SGD, {'lr': 0.1, 'momentum': 0.9})]
)
def test_moments_are_zero_where_the_mask_changed(make, settings):
    weight, bias = parameter(torch.randn(64).tolist(), (8, 8)), parameter(shape=(8,))
    optimizer = make([weight, bias], **settings)
    training = training_of(weight, [1, 0] * 32, rate=0.3)
    before = training.masks['w'].clone()
    ((weight**2).sum() + (weight + bias).sum()).backward()
    optimizer.step()
    full = {name: value.clone() for name, value in optimizer.state[weight].items() if value.shape == weight.shape}
    assert full
    assert all(value.all() for value in full.values())
    of_bias = [value.clone() for value in optimizer.state[bias].values()]
    training.after_step(optimizer)
    changed = training.masks['w'] != before
    assert changed.any()
    for name, value in full.items():
        assert not optimizer.state[weight][name][changed].any()
        assert optimizer.state[weight][name][~changed].equal(value[~changed])
    assert all(a.equal(b) for a, b in zip(of_bias, optimizer.state[bias].values(), strict=True))


@pytest.mark.parametrize('autocast', [False, True], ids=['float32', 'bfloat16 autocast'])
def test_zeros_stay_and_active_weights_move_through_fifty_steps(autocast):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(128, 4))
    parameters = {name: p for name, p in net.named_parameters() if p.dim() > 1}
    training = SparseTraining(parameters, prune_rate=CosinePruneRate(0.3, 50), updates=UpdateSchedule(10))
    training.init_random(training.densities('erk', 0.5))
    counts = training.counts()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(50):
        before = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            loss = net(torch.randn(4, 3, 6, 6)).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report = training.after_step(optimizer)
        for name, p in parameters.items():
            mask = training.masks[name]
            assert not p[~mask].any()
            if report is None:
                assert (p != before[name])[mask].float().mean() > 0.99
    assert training.counts() == counts
    assert training.updates_done == 5


def test_initial_masks_have_the_requested_total():
    parameters = {
        name: nn.Parameter(torch.randn(shape))
        for name, shape in {'stem': (8, 3, 4, 4), 'a': (64, 16), 'b': (100, 64), 'tiny': (2, 4)}.items()
    }
    scores = {name: p.detach().abs() * (i + 1) for i, (name, p) in enumerate(parameters.items())}
    total = sum(p.numel() for p in parameters.values())
    for init in ('snip', 'erk', 'uniform'):
        training = SparseTraining(parameters, dense_above=0.8)
        dense = training.init_random(training.densities(init, 0.4, scores))
        active = sum(count[0] for count in training.counts().values())
        assert active / total == pytest.approx(0.6, abs=1e-3)
        assert set(dense) == {name for name, density in training.density().items() if density == 1}
        assert set(training.masks) | set(dense) == set(parameters)
        assert init != 'erk' or 'tiny' in dense
        assert sum(int((p != 0).sum()) for p in parameters.values()) <= active
        for p in parameters.values():
            p.data.normal_()


def test_masks_depend_on_the_seed_and_the_name_only():
    def masks(seed, *names):
        training = SparseTraining({name: parameter() for name in names}, seed=seed)
        training.init_random(dict.fromkeys(names, 0.5))
        return {name: bits(mask) for name, mask in training.masks.items()}

    assert masks(1, 'a', 'b')['b'] == masks(1, 'c', 'b')['b']
    assert masks(1, 'a') != masks(2, 'a') or masks(1, 'b') != masks(2, 'b')


def test_sparsity_zero_is_a_dense_network():
    weight = parameter()
    training = SparseTraining({'w': weight}, prune_rate=ConstantPruneRate(0.5), updates=UpdateSchedule(1))
    assert training.init_random(training.densities('uniform', 0.0)) == ['w']
    assert training.after_step() is None
    assert weight.flatten().tolist() == WEIGHT
    assert training.density() == {'w': 1}
    assert training.counts() == {'w': (8, 8)}


def test_static_masks_are_the_zeros_of_the_weights():
    sparse, dense, fresh = parameter([5, 0, 2, 0, 3, 0, 0, 7]), parameter(), parameter([0.0] * 8)
    training = SparseTraining({'sparse': sparse, 'dense': dense, 'fresh': fresh})
    assert training.init_static() == ['dense', 'fresh']
    for p in (sparse, dense, fresh):
        p.data.add_(10)
    training.after_step()
    assert sparse.flatten().tolist() == [15, 0, 12, 0, 13, 0, 0, 17]
    assert dense.all()
    assert fresh.all()
    assert training.density() == {'sparse': 0.5, 'dense': 1, 'fresh': 1}


def test_a_zero_by_chance_is_no_mask():
    values = torch.ones(400)
    values[7] = 0
    training = SparseTraining({'w': parameter(values.tolist(), (20, 20))})
    assert training.init_static() == ['w']
    training = SparseTraining({'w': parameter(values.tolist(), (20, 20))}, dense_above=1.0)
    assert training.init_static() == []
    assert training.counts() == {'w': (399, 400)}


def test_whole_kernels():
    """Scores are sums over a kernel: 10, 1, 4 and 2 of four; one of three active goes, that with 1."""
    weight = parameter([4, 6, 0, 1, 2, -2, 1, 1], (4, 1, 1, 2))
    training = SparseTraining(
        {'w': weight}, unit=Kernels(), prune_rate=ConstantPruneRate(0.3), updates=UpdateSchedule(1), growth='gradient'
    )
    training.load_state_dict(state_of({'w': ([1, 1, 1, 0], (4, 1, 1, 1))}))
    assert training.counts() == {'w': (6, 8)}
    weight.grad = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]).view(4, 1, 1, 2)
    training.after_step()
    assert bits(training.masks['w']) == [1, 0, 1, 1]
    assert weight.flatten().tolist() == [4, 6, 0, 0, 2, -2, 0, 0]


def test_moments_of_whole_kernels():
    weight = parameter([4, 6, 0, 1, 2, -2, 1, 1], (4, 1, 1, 2))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones(4, 1, 1, 2)
    weight.grad[3] = 5
    optimizer.step()
    training = SparseTraining(
        {'w': weight}, unit=Kernels(), prune_rate=ConstantPruneRate(0.3), updates=UpdateSchedule(1), growth='gradient'
    )
    training.load_state_dict(state_of({'w': ([1, 1, 1, 0], (4, 1, 1, 1))}))
    training.after_step(optimizer)
    moments = optimizer.state[weight]['exp_avg'].flatten() != 0
    assert moments.int().tolist() == [1, 1, 0, 0, 1, 1, 0, 0]


def test_state_survives_a_checkpoint_bit_exactly(tmp_path):
    def make():
        torch.manual_seed(0)
        weight = parameter(torch.randn(64).tolist(), (8, 8))
        training = SparseTraining(
            {'w': weight, 'dense': parameter()}, prune_rate=CosinePruneRate(0.5, 20), updates=UpdateSchedule(2), seed=3
        )
        training.init_random({'w': 0.5, 'dense': 1.0})
        return weight, training

    def run(weight, training, steps):
        for _ in range(steps):
            weight.data.add_(torch.linspace(-1, 1, 64).view(8, 8))
            training.after_step()

    weight, training = make()
    run(weight, training, 11)
    resumed_weight, resumed = make()
    run(resumed_weight, resumed, 5)
    torch.save({'state': resumed.state_dict(), 'weight': resumed_weight.data}, tmp_path / 'checkpoint.pth')
    resumed_weight, resumed = make()
    checkpoint = torch.load(tmp_path / 'checkpoint.pth', weights_only=True)
    resumed_weight.data.copy_(checkpoint['weight'])
    resumed.load_state_dict(checkpoint['state'])
    run(resumed_weight, resumed, 6)
    assert resumed_weight.equal(weight)
    assert resumed.masks['w'].equal(training.masks['w'])
    assert (resumed.steps, resumed.updates_done) == (training.steps, training.updates_done) == (11, 5)
    assert resumed.dense_layers == ['dense']


def test_the_saved_state_is_a_copy():
    training = training_of(parameter(torch.randn(64).tolist(), (8, 8)), [1, 0] * 32)
    state = training.state_dict()
    training.after_step()
    assert not training.masks['w'].equal(state['masks']['w'])
    training.load_state_dict(state)
    training.after_step()
    assert bits(state['masks']['w']) == [1, 0] * 32


@pytest.mark.parametrize(
    ('state', 'message'),
    [
        ({'masks': {}}, r"must hold \['dense', 'steps', 'updates_done'\], got \['masks'\]"),
        (
            state_of({'w': (MASK, (2, 4)), 'x': (MASK, (8,))}),
            r'of the 1 layers that are sparse here, got 2 \(only there: x; only here: none\)',
        ),
        (state_of({}), 'got 0 .*only here: w.*: resume with the same model and scope'),
        (
            state_of({'w': (MASK, (4, 2))}),
            r'mask of w must be bool of shape \(2, 4\), got .* of shape \(4, 2\)',
        ),
    ],
)
def test_a_state_that_does_not_fit(state, message):
    weight = parameter()
    training = SparseTraining({'w': weight})
    with pytest.raises(ValueError, match=message):
        training.load_state_dict(state)
    assert weight.flatten().tolist() == WEIGHT


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'growth': 'rigl'}, r"growth must be one of \('random', 'gradient'\), got 'rigl'"),
        ({'updates': UpdateSchedule(2)}, 'prune_rate must be a schedule where masks are updated, got None'),
        ({'share_interval': -1}, 'share_interval must be a number of updates, 0 or None, got -1'),
        ({'share': [('w', 'x')]}, "share must name every sparse parameter at most once, got 'x'"),
        ({'unit': Kernels()}, r'Whole kernels need weights of shape \(O, I, R, S\), got w of shape \(2, 4\)'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SparseTraining({'w': parameter()}, **settings)


def test_layers_of_different_shapes_share_no_mask():
    with pytest.raises(ValueError, match=r'must be of one shape, got \(2, 4\) for a and \(4, 2\) for b'):
        SparseTraining({'a': parameter(), 'b': parameter(shape=(4, 2))}, share=[('a', 'b')])


@pytest.mark.parametrize(
    ('init', 'scores', 'message'),
    [
        ('snap', None, r"init must be one of \('snip', 'erk', 'uniform'\), got 'snap'"),
        ('snip', None, "init='snip' needs the scores of 1 parameters, got none"),
        ('snip', {}, "init='snip' needs the scores of 1 parameters, got 0, other ones"),
    ],
)
def test_bad_initialisation(init, scores, message):
    with pytest.raises(ValueError, match=message):
        SparseTraining({'w': parameter()}).densities(init, 0.4, scores)

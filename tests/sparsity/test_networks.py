"""The sizes of the papers' sparse networks, counted from masks."""

import pytest
import torch
from classifier import Classifier, classifier_on_meta

from mmlk.sparsity import (
    ConstantPruneRate,
    Kernels,
    SparseTraining,
    UpdateSchedule,
    find_path_groups,
    select_parameters,
    snip_scores,
)

#: SLaK (arXiv 2207.03620): all parameters, those that are made sparse, those left at 40 %; published 30M, 55M, 95M.
SLAK = {
    't': (50_703_838, 50_576_524, 30_473_228),
    's': (91_131_820, 90_878_758, 54_780_317),
    'b': (157_950_792, 157_613_790, 94_905_276),
}
#: PeLK (arXiv 2403.07589, Table 4), in millions.
PELK = {'t': 29, 's': 50, 'b': 89, 'b_101': 90}


def left(model, training, densities=None):
    """Parameters that are not masked: by counts, or by what the densities come to before any mask is drawn."""
    sizes = {name: p.numel() for name, p in training.parameters.items()}
    if densities is None:
        active = sum(count for count, _ in training.counts().values())
    else:
        active = sum(round(densities[name] * size) for name, size in sizes.items())
    counted = sum(p.numel() for name, p in model.named_parameters() if 'position_embedding' not in name)
    return counted - sum(sizes.values()) + active


@pytest.mark.parametrize('arch', SLAK)
@pytest.mark.parametrize('init', ['uniform', 'erk'])
def test_slak_has_the_published_size(arch, init):
    model = classifier_on_meta('mmlk.SLaK', arch=arch)
    training = SparseTraining(select_parameters(model))
    total, maskable, expected = SLAK[arch]
    assert sum(p.numel() for p in model.parameters()) == total
    assert sum(p.numel() for p in training.parameters.values()) == maskable
    assert left(model, training, training.densities(init, 0.4)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('arch', PELK)
def test_pelk_has_the_published_size(arch):
    model = classifier_on_meta('mmlk.PeLK', arch=arch)
    training = SparseTraining(select_parameters(model))
    assert not any('position_embedding' in name for name in training.parameters)
    assert left(model, training, training.densities('erk', 0.4)) / 1e6 == pytest.approx(PELK[arch], rel=0.02)


def scored(model, parameters):
    """Saliencies of a batch of two small pictures."""
    torch.manual_seed(0)
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([3, 7])
    return snip_scores(parameters, lambda: torch.nn.functional.cross_entropy(model(images), labels))


def test_slak_t_with_snip_ratios_and_real_masks():
    model = Classifier('mmlk.SLaK', arch='t')
    training = SparseTraining(select_parameters(model), prune_rate=ConstantPruneRate(0.5), updates=UpdateSchedule(1))
    densities = training.densities('snip', 0.4, scored(model, training.parameters))
    training.init_random(densities)
    _, maskable, expected = SLAK['t']
    assert left(model, training) == pytest.approx(expected, rel=1e-3)
    zeros = sum(int((p == 0).sum()) for p in training.parameters.values())
    # Drawing fifty million normal numbers gives a zero now and then.
    assert zeros == pytest.approx(SLAK['t'][0] - left(model, training), abs=10)
    # The layers differ, and none is lost.
    shares = training.density().values()
    assert max(shares) - min(shares) > 0.2
    assert min(shares) > 0
    before = training.counts()
    report = training.after_step()
    assert training.counts() == before
    assert report.pruned == report.grown > 0.2 * maskable

    # The authors' way, every weight drawn by itself.
    training = SparseTraining(training.parameters, exact=False)
    training.init_random(densities)
    assert left(model, training) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(('paths', 'dense', 'expected'), [(2, 31_790_260, 31.32), (1, 31_002_670, 30.77)])
def test_shiftwise_t_has_the_published_size(paths, dense, expected):
    """Whole small kernels, one mask per mixer."""
    model = Classifier('mmlk.ShiftWiseNet', arch='v2_t', num_paths=paths)
    assert sum(p.numel() for p in model.parameters()) == dense
    parameters = select_parameters(model, 'large_kernels')
    groups = find_path_groups(model, list(parameters))
    assert len(parameters) == 27 * paths
    assert len(groups) == (27 if paths == 2 else 0)
    training = SparseTraining(parameters, unit=Kernels(), share=groups)
    assert sum(p.numel() for p in parameters.values()) == 787_590 * paths
    training.init_random(training.densities('snip', 0.3, scored(model, parameters)))
    assert left(model, training) / 1e6 == pytest.approx(expected, abs=0.005)
    for group in groups:
        first, second = (parameters[name] for name in group)
        off = first.flatten(1).eq(0).all(1)
        assert off.equal(second.flatten(1).eq(0).all(1))
        # A kernel is off as a whole or not at all.
        assert first.flatten(1)[~off].ne(0).float().mean() > 0.999


def test_large_kernels_of_the_other_mixers():
    def names(type, arch):
        return list(select_parameters(classifier_on_meta(type, arch=arch), 'large_kernels'))

    strips = names('mmlk.SLaK', 't')
    assert len(strips) == 2 * 18
    assert strips[0] == 'backbone.stages.0.blocks.0.mixer.vertical_weight'
    model = classifier_on_meta('mmlk.SLaK', arch='t')
    assert sum(p.numel() for p in select_parameters(model, 'large_kernels').values()) == 3_055_740
    assert names('mmlk.PeLK', 't')[0] == 'backbone.stages.0.blocks.0.mixer.weight'
    assert len(names('mmlk.PeLK', 't')) == 18
    assert len(names('mmlk.RepLKNet', '31b')) == 24
    assert len(names('mmlk.UniRepLKNet', 't')) > 8

import pytest
import torch
from torch import nn

from mmlk.sparsity import find_path_groups, select_parameters


class Mixer(nn.Module):
    """Says which of its parameters are the large kernel, as the mixers of this package do."""

    large_kernel_weights = ('weight', 'paths', 'absent')

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1, 3, 3))
        self.paths = nn.ParameterList(nn.Parameter(torch.ones(8, 1, 3, 3)) for _ in range(2))
        self.small_weight = nn.Parameter(torch.ones(4, 1, 3, 3))


class Network(nn.Module):
    """A backbone with everything that is not a weight."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 2)
        self.mixer = Mixer()
        self.fc = nn.Linear(4, 8)
        self.norm = nn.BatchNorm2d(4)
        self.gamma = nn.Parameter(torch.ones(4, 1, 1))
        self.grn = nn.Parameter(torch.ones(1, 1, 1, 4))
        self.position_embedding = nn.Parameter(torch.ones(1, 4, 8, 8))
        self.pos_embed = nn.Parameter(torch.ones(64, 4))


WEIGHTS = ['stem.weight', 'mixer.weight', 'mixer.paths.0', 'mixer.paths.1', 'mixer.small_weight', 'fc.weight']


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Network()
        self.neck = nn.Conv2d(4, 4, 3)
        self.head = nn.Module()
        self.head.fc = nn.Linear(4, 10)


class Segmentor(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Network()
        self.decode_head = nn.Conv2d(4, 4, 3)


def test_all_weights_of_a_bare_network():
    net = Network()
    selected = select_parameters(net)
    assert sorted(selected) == sorted(WEIGHTS)
    assert selected['fc.weight'] is net.fc.weight


def test_all_weights_of_a_backbone_and_a_classification_head():
    names = [f'backbone.{name}' for name in WEIGHTS]
    assert sorted(select_parameters(Classifier())) == sorted([*names, 'head.fc.weight'])
    assert sorted(select_parameters(Segmentor())) == sorted(names)


def test_large_kernels():
    names = ['backbone.mixer.weight', 'backbone.mixer.paths.0', 'backbone.mixer.paths.1']
    assert sorted(select_parameters(Classifier(), 'large_kernels')) == sorted(names)
    assert list(select_parameters(Mixer(), 'large_kernels')) == ['weight', 'paths.0', 'paths.1']


def test_a_pattern():
    assert list(select_parameters(Classifier(), r'^neck\.|head')) == ['neck.weight', 'head.fc.weight']


def test_exclusions_and_frozen_weights():
    net = Network()
    net.stem.requires_grad_(False)
    assert sorted(select_parameters(net, exclude=(r'pos', r'^mixer\.'))) == ['fc.weight']


def test_one_entry_per_parameter_that_is_used_twice():
    net = Network()
    net.again = net.fc
    assert list(select_parameters(net, 'fc|again')) == ['fc.weight']


@pytest.mark.parametrize(
    ('model', 'scope', 'message'),
    [
        (Network(), 'lager', r"scope='lager' .* matches no trainable weight .* of Network: .* 'stem.weight'"),
        (nn.Linear(2, 2), 'large_kernels', "scope='large_kernels' .* of Linear"),
        (nn.BatchNorm2d(2), 'all', 'names such as .*none'),
        (Network(), '(', r"scope must be one of \('all', 'large_kernels'\) or a regular expression .*, got '\('"),
    ],
)
def test_nothing_selected(model, scope, message):
    with pytest.raises(ValueError, match=message):
        select_parameters(model, scope)


def test_paths_belong_together():
    net = Network()
    assert find_path_groups(net, list(select_parameters(net))) == [('mixer.paths.0', 'mixer.paths.1')]
    assert find_path_groups(net, ['mixer.weight', 'mixer.paths.1']) == []

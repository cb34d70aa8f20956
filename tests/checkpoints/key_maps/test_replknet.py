"""Names of the authors' and of mmpretrain's RepLKNet files against our networks."""

import pytest
import torch
from authors_keys import load_keys
from mmengine.registry import MODELS, DefaultScope
from numerics import randomise, relative_error
from torch import nn

import mmlk  # noqa: F401
from mmlk.checkpoints.key_maps import mmpretrain, replknet
from mmlk.models import RepLKNet, switch_to_deploy

KEY_MAP = replknet.KEY_MAP
TINY = dict(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32), kernel_size=(13, 11, 9, 7))


class Classifier(nn.Module):
    """Keys as in a key map: a bare backbone's, and ``head.fc``."""

    def __init__(self, num_classes=1000, **arguments):
        super().__init__()
        self.backbone = RepLKNet(final_norm=True, **arguments)
        self.fc = nn.Linear(self.backbone.channels[-1], num_classes)

    def forward(self, x):
        return self.fc(self.backbone(x)[0])

    def weights(self):
        head = {f'head.{key}': value for key, value in self.state_dict().items() if key.startswith('fc.')}
        return self.backbone.state_dict() | head

    def load(self, weights):
        head = {key: value for key, value in weights.items() if key.startswith('head.')}
        body = {key: value for key, value in weights.items() if key not in head}
        self.backbone.load_state_dict(body, strict=True)
        self.load_state_dict({key.removeprefix('head.'): value for key, value in head.items()}, strict=False)
        assert set(head) == {'head.fc.weight', 'head.fc.bias'}
        return self


def distinct(shapes):
    """A tensor of its own value per key; expanded, so that it takes no memory."""
    return {key: torch.tensor(float(index)).expand(shape) for index, (key, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize('arch', ['31b', '31l', 'xl'])
def test_the_authors_classifiers(arch):
    shapes, params = load_keys(f'replknet_{arch}')
    source = distinct(shapes)
    ours = {KEY_MAP.to_ours(key): value for key, value in source.items()}
    assert None not in ours
    # Each tensor once, as it is; and the same content back.
    assert sorted(id(value) for value in ours.values()) == sorted(id(value) for value in source.values())
    back = {KEY_MAP.to_theirs(key): value for key, value in ours.items()}
    assert set(back) == set(source)
    assert all(back[key] is source[key] for key in source)
    with torch.device('meta'):
        net = Classifier(arch=arch).load({key: value.to('meta') for key, value in ours.items()})
    assert {key: tuple(value.shape) for key, value in net.weights().items()} == {
        KEY_MAP.to_ours(key): shape for key, shape in shapes.items()
    }
    assert sum(p.numel() for p in net.parameters()) == params


@pytest.mark.parametrize(
    ('arch', 'deploy', 'options', 'tensors', 'entries', 'params'),
    [
        ('31b', False, 'classifier', 562, 1171, 79_864_168),
        ('31l', False, 'classifier', 562, 1171, 172_671_016),
        ('xl', False, 'classifier', 490, 1027, 335_435_752),
        ('31b', True, 'classifier', 466, 931, 79_527_272),
        ('31l', True, 'classifier', 466, 931, 172_165_672),
        ('xl', True, 'classifier', 466, 931, 335_399_656),
        ('31b', False, 'backbone', 558, 1164, 78_837_120),
        ('31l', False, 'backbone', 558, 1164, 171_130_944),
        ('xl', False, 'backbone', 486, 1020, 333_382_656),
        ('31b', True, 'backbone', 462, 924, 78_500_224),
        ('31l', True, 'backbone', 462, 924, 170_625_600),
        ('xl', True, 'backbone', 462, 924, 333_346_560),
        ('31b', False, 'normed', 566, 1184, 78_840_960),
        ('31l', False, 'normed', 566, 1184, 171_136_704),
        ('xl', False, 'normed', 494, 1040, 333_390_336),
        ('31b', False, 'classifier of ImageNet-22K', 562, 1171, 101_226_193),
        ('31l', False, 'classifier of ImageNet-22K', 562, 1171, 204_703_633),
    ],
)
def test_entry_and_parameter_counts(arch, deploy, options, tensors, entries, params):
    """Every file the authors' code can write, train form and merged."""
    with torch.device('meta'):
        if options.startswith('classifier'):
            net = Classifier(21841 if '22K' in options else 1000, arch=arch, deploy=deploy)
            weights = net.weights()
        else:
            net = RepLKNet(arch, deploy=deploy, norm_intermediate_features=options == 'normed')
            weights = net.state_dict()
    theirs = {KEY_MAP.to_theirs(key) for key in weights}
    assert None not in theirs
    assert len(theirs) == len(weights) == entries
    assert {KEY_MAP.to_ours(key) for key in theirs} == set(weights)
    assert len(list(net.parameters())) == tensors
    assert sum(p.numel() for p in net.parameters()) == params


@pytest.mark.parametrize('fused', [False, True], ids=['train form', 'merged'])
def test_round_trip_of_a_network(fused):
    source = randomise(RepLKNet('31b', **TINY, norm_intermediate_features=True))
    target = RepLKNet('31b', **TINY, norm_intermediate_features=True, deploy=fused)
    if fused:
        switch_to_deploy(source)
    theirs = {KEY_MAP.to_theirs(key): value for key, value in source.state_dict().items()}
    assert any('lkb_reparam' in key for key in theirs) is fused
    target.load_state_dict({KEY_MAP.to_ours(key): value for key, value in theirs.items()}, strict=True)
    for key, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('stem.0.conv.weight', 'downsample_layers.0.0.conv.weight'),
        ('stem.3.bn.running_var', 'downsample_layers.0.3.norm.running_var'),
        ('transitions.2.0.conv.weight', 'downsample_layers.3.0.conv.weight'),
        ('transitions.0.1.bn.bias', 'downsample_layers.1.1.norm.bias'),
        ('stages.2.blocks.34.prelkb_bn.weight', 'stages.2.blocks.34.mixer_norm.weight'),
        ('stages.2.blocks.35.preffn_bn.num_batches_tracked', 'stages.2.blocks.35.ffn_norm.num_batches_tracked'),
        ('stages.0.blocks.0.pw2.bn.bias', 'stages.0.blocks.0.pw2.norm.bias'),
        ('stages.1.blocks.0.large_kernel.lkb_origin.conv.weight', 'stages.1.blocks.0.mixer.weight'),
        ('stages.1.blocks.0.large_kernel.small_conv.bn.bias', 'stages.1.blocks.0.mixer.small_norm.bias'),
        ('stages.1.blocks.0.large_kernel.lkb_reparam.bias', 'stages.1.blocks.0.mixer.reparam_convs.0.bias'),
        ('stages.3.norm.weight', 'norm3.weight'),
        ('norm.running_mean', 'norm.running_mean'),
        ('head.bias', 'head.fc.bias'),
    ],
)
def test_both_directions(theirs, ours):
    assert KEY_MAP.to_ours(theirs) == ours
    assert KEY_MAP.to_theirs(ours) == theirs
    assert KEY_MAP.drop_reason(theirs) is None


def test_heads_of_the_pretraining_are_dropped_and_nothing_else():
    for key in ('head.cls_22k.weight', 'head.cls_22k.bias', 'head.other_task.fc.weight'):
        assert KEY_MAP.to_ours(key) is None
        assert 'MegData73M' in KEY_MAP.drop_reason(key)
    for key in ('stages.0.blocks.0.gamma', 'backbone.stem.0.conv.weight', 'stem.0.conv.bias', 'heads.0.weight'):
        assert KEY_MAP.to_ours(key) is None
        assert KEY_MAP.drop_reason(key) is None


class TestMMPretrain:
    """mmpretrain's own network is a second, independent implementation of the equations."""

    KINDS = [
        pytest.param(dict(small_kernel=5, dw_ratio=1), id='31b'),
        pytest.param(dict(small_kernel=None, dw_ratio=1.5), id='xl'),
    ]

    @staticmethod
    def theirs(depths, channels, kernel_size, small_kernel, dw_ratio):
        arch = dict(
            layers=depths,
            channels=channels,
            large_kernel_sizes=kernel_size,
            small_kernel=small_kernel,
            dw_ratio=dw_ratio,
        )
        # Other tests leave another scope behind.
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return MODELS.build(
                dict(
                    type='ImageClassifier',
                    backbone=dict(type='RepLKNet', arch=arch, out_indices=(3,), drop_path_rate=0.0),
                    neck=dict(type='GlobalAveragePooling'),
                    head=dict(type='LinearClsHead', num_classes=10, in_channels=channels[3]),
                )
            )

    @pytest.mark.parametrize('kind', KINDS)
    def test_every_key_at_full_depth(self, kind):
        fields = dict(depths=(2, 2, 18, 2), channels=(4, 4, 4, 4), kernel_size=(31, 29, 27, 13)) | kind
        theirs = self.theirs(**fields).state_dict()
        ours = Classifier(10, **fields).weights()
        translated = {mmpretrain.KEY_MAP.to_ours(key): tuple(value.shape) for key, value in theirs.items()}
        assert translated == {key: tuple(value.shape) for key, value in ours.items()}
        assert {mmpretrain.KEY_MAP.to_theirs(key) for key in ours} == set(theirs)

    @pytest.mark.parametrize('training', [False, True], ids=['evaluation', 'training'])
    @pytest.mark.parametrize('kind', KINDS)
    def test_same_logits(self, kind, training):
        theirs = randomise(self.theirs(**TINY, **kind).double()).train(training)
        ours = Classifier(10, **TINY, **kind).double().train(training)
        ours.load({mmpretrain.KEY_MAP.to_ours(key): value for key, value in theirs.state_dict().items()})
        x = torch.randn(2, 3, 64, 48, dtype=torch.float64)
        assert relative_error(ours(x), theirs(x)) < 1e-12

    def test_norms_of_other_stages_are_not_explained(self):
        assert mmpretrain.KEY_MAP.to_ours('backbone.stages.3.norm.weight') == 'norm.weight'
        assert mmpretrain.KEY_MAP.to_ours('backbone.stages.2.norm.weight') is None
        assert mmpretrain.KEY_MAP.to_ours('stem.0.conv.weight') is None

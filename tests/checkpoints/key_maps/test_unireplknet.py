import plain_unireplknet as plain
import pytest
import torch
from authors_keys import load_keys
from torch import nn

from mmlk.checkpoints.key_maps import unireplknet, unireplknet_merged
from mmlk.models import UniRepLKNet

TRAIN, MERGED = unireplknet.KEY_MAP, unireplknet_merged.KEY_MAP
ALL_K13 = ((3, 3), (13, 13), (13,) * 6, (13, 13))
T_KERNELS = ((3,) * 3, (13,) * 3, (13, 3) * 9, (13,) * 3)
T = ((3, 3, 18, 3), (80, 160, 320, 640), T_KERNELS)


def distinct(shapes) -> dict[str, torch.Tensor]:
    """Tensors of which no two are alike, a counter among them."""
    return {
        key: torch.tensor(index) if key.endswith('num_batches_tracked') else torch.randn(shape)
        for index, (key, shape) in enumerate(shapes.items())
    }


def load_strictly(state, arch='t', **arguments) -> dict[str, torch.Tensor]:
    """State dict of the classifier, or of the backbone, after loading ``state`` of our names into it."""
    with torch.device('meta'):
        model = UniRepLKNet(arch, **arguments)
        if arguments.get('final_norm'):
            model.head = nn.Module()
            model.head.fc = nn.Linear(model.channels[-1], 1000)
    model.load_state_dict(state, strict=True, assign=True)
    return model.state_dict(), sum(p.numel() for p in model.parameters())


def test_the_list_of_the_authors_is_that_of_the_restatement():
    shapes, _ = load_keys('unireplknet_t')
    assert shapes == plain.authors_shapes(*T, classes=1000)


@pytest.mark.parametrize(
    ('key_map', 'merged', 'entries', 'params'),
    [(TRAIN, False, 1116, 31_693_420), (MERGED, True, 321, 31_037_980)],
    ids=['train', 'merged'],
)
def test_classifier_converts_loads_and_comes_back(key_map, merged, entries, params):
    shapes, stated = load_keys('unireplknet_t')
    if merged:
        shapes = plain.authors_shapes(*T, merged=True, classes=1000)
    else:
        assert stated == params
    assert len(shapes) == entries
    theirs = distinct(shapes)
    ours = {key_map.to_ours(key): value for key, value in theirs.items()}
    assert None not in ours
    assert len(ours) == entries
    loaded, size = load_strictly(ours, final_norm=True, deploy=merged)
    assert size == params
    # Every tensor is at its destination, once, and comes back under its name.
    assert set(loaded) == set(ours)
    back = {key_map.to_theirs(key): value for key, value in loaded.items()}
    assert set(back) == set(theirs)
    for key, value in theirs.items():
        assert torch.equal(back[key], value), key


@pytest.mark.parametrize(('key_map', 'merged'), [(TRAIN, False), (MERGED, True)], ids=['train', 'merged'])
def test_downstream_backbone_with_its_output_norms(key_map, merged):
    channels = (40, 80, 160, 320)
    theirs = distinct(plain.authors_shapes((2, 2, 6, 2), channels, ALL_K13, merged=merged))
    ours = {key_map.to_ours(key): value for key, value in theirs.items()}
    loaded, _ = load_strictly(ours, 'a', deploy=merged)
    assert {key_map.to_theirs(key) for key in loaded} == set(theirs)
    for index in range(4):
        assert torch.equal(loaded[f'norm{index}.weight'], theirs[f'norm{index}.weight'])


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('downsample_layers.0.3.weight', 'downsample_layers.0.3.weight'),
        ('stages.0.1.dwconv.weight', 'stages.0.blocks.1.mixer.weight'),
        ('stages.2.14.dwconv.lk_origin.weight', 'stages.2.blocks.14.mixer.large_weight'),
        ('stages.2.14.dwconv.origin_bn.running_var', 'stages.2.blocks.14.mixer.large_norm.running_var'),
        ('stages.2.14.dwconv.dil_conv_k7_2.weight', 'stages.2.blocks.14.mixer.dilated_weights.k7_d2'),
        ('stages.2.14.dwconv.dil_bn_k3_5.bias', 'stages.2.blocks.14.mixer.dilated_norms.k3_d5.bias'),
        ('stages.1.0.norm.running_mean', 'stages.1.blocks.0.norm.running_mean'),
        ('stages.1.0.se.down.bias', 'stages.1.blocks.0.se.fc1.bias'),
        ('stages.1.0.pwconv1.1.weight', 'stages.1.blocks.0.ffn.fc1.weight'),
        ('stages.1.0.gamma', 'stages.1.blocks.0.ffn.layer_scale.gamma'),
        ('stages.1.0.act.1.gamma', 'stages.1.blocks.0.ffn.grn.weight'),
        ('stages.1.0.act.1.beta', 'stages.1.blocks.0.ffn.grn.bias'),
        ('stages.1.0.pwconv2.0.weight', 'stages.1.blocks.0.ffn.fc2.weight'),
        ('stages.1.0.pwconv2.2.num_batches_tracked', 'stages.1.blocks.0.ffn.norm.num_batches_tracked'),
        ('norm.bias', 'norm.bias'),
        ('norm2.bias', 'norm2.bias'),
        ('head.weight', 'head.fc.weight'),
    ],
)
def test_names_of_the_train_form(theirs, ours):
    """Among them the clash of names: the block's gamma is the layer scale, the gamma of act.1 is the GRN's."""
    assert TRAIN.to_ours(theirs) == ours
    assert TRAIN.to_theirs(ours) == theirs


def test_each_form_is_refused_by_the_table_of_the_other():
    train, merged = plain.authors_shapes(*T, classes=1000), plain.authors_shapes(*T, merged=True, classes=1000)
    assert any(TRAIN.to_ours(key) is None for key in merged)
    assert any(MERGED.to_ours(key) is None for key in train)


@pytest.mark.parametrize('key_map', [TRAIN, MERGED], ids=['train', 'merged'])
def test_unknown_keys_stay_unexplained(key_map):
    for key in ('stages.0.0.dwconv.kernel', 'stages.0.0.pwconv1.0.weight', 'stem.0.weight', 'stages.0.0.act.0.gamma'):
        assert key_map.to_ours(key) is None
        assert key_map.drop_reason(key) is None

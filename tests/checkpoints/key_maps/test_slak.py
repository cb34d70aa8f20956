import pytest
from authors_keys import load_keys

from mmlk.checkpoints.key_maps.slak import KEY_MAP


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('downsample_layers.0.1.bias', 'downsample_layers.0.1.bias'),
        ('stages.2.8.gamma', 'stages.2.blocks.8.layer_scale.gamma'),
        ('stages.0.1.large_kernel.LoRA1.conv.weight', 'stages.0.blocks.1.mixer.vertical_weight'),
        ('stages.0.1.large_kernel.LoRA1.bn.running_var', 'stages.0.blocks.1.mixer.vertical_norm.running_var'),
        ('stages.0.1.large_kernel.LoRA2.conv.weight', 'stages.0.blocks.1.mixer.horizontal_weight'),
        ('stages.0.1.large_kernel.LoRA2.bn.bias', 'stages.0.blocks.1.mixer.horizontal_norm.bias'),
        ('stages.0.1.large_kernel.small_conv.conv.weight', 'stages.0.blocks.1.mixer.small_weight'),
        (
            'stages.0.1.large_kernel.small_conv.bn.num_batches_tracked',
            'stages.0.blocks.1.mixer.small_norm.num_batches_tracked',
        ),
        ('stages.3.0.large_kernel.lkb_origin.conv.weight', 'stages.3.blocks.0.mixer.weight'),
        ('stages.3.0.large_kernel.lkb_origin.bn.weight', 'stages.3.blocks.0.mixer.norm.weight'),
        ('stages.3.0.large_kernel.lkb_reparam.weight', 'stages.3.blocks.0.mixer.reparam_convs.0.weight'),
        ('stages.3.0.large_kernel.lkb_reparam.bias', 'stages.3.blocks.0.mixer.reparam_convs.0.bias'),
        ('stages.1.2.norm.weight', 'stages.1.blocks.2.norm.weight'),
        ('stages.1.2.pwconv1.weight', 'stages.1.blocks.2.ffn.fc1.weight'),
        ('stages.1.2.pwconv2.bias', 'stages.1.blocks.2.ffn.fc2.bias'),
        ('norm.weight', 'norm.weight'),
        ('norm2.weight', 'norm2.weight'),
        ('head.weight', 'head.fc.weight'),
    ],
)
def test_names_in_both_directions(theirs, ours):
    assert KEY_MAP.to_ours(theirs) == ours
    assert KEY_MAP.to_theirs(ours) == theirs


@pytest.mark.parametrize(
    'key', ['stages.0.1.large_kernel.LoRA3.conv.weight', 'stages.0.1.large_kernel.conv.weight', 'masks', 'norms.weight']
)
def test_nothing_else_is_explained(key):
    assert KEY_MAP.to_ours(key) is None
    assert KEY_MAP.drop_reason(key) is None


@pytest.mark.parametrize('name', ['slak_t', 'slak_s', 'slak_b'])
def test_bijection(name):
    shapes, _ = load_keys(name)
    ours = {key: KEY_MAP.to_ours(key) for key in shapes}
    assert None not in ours.values()
    assert len(set(ours.values())) == len(shapes)
    assert all(KEY_MAP.to_theirs(name) == key for key, name in ours.items())

import copy

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from numerics import FUSION_NETWORK, assert_close, randomise, relative_error
from torch import nn

import mmlk  # noqa: F401
from mmlk.models.reparam import Branch, fold_norm, merge_branches, pad_kernel, switch_to_deploy


def test_fold_norm_hand_computed():
    norm = nn.BatchNorm2d(1, eps=0.0)
    norm.weight.data.fill_(3.0)
    norm.bias.data.fill_(5.0)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    kernel, bias = fold_norm(Branch(torch.ones(1, 1, 1, 1), torch.ones(1), norm))
    # scale = 3 / sqrt(4); bias = 5 + (1 - 2) * 1.5
    assert kernel.item() == 1.5
    assert bias.item() == 3.5


@pytest.mark.parametrize('affine', [True, False])
def test_fold_norm_equals_conv_and_norm(affine):
    conv = nn.Conv2d(4, 4, 5, padding=2, groups=4).double()
    norm = randomise(nn.BatchNorm2d(4, affine=affine).double()).eval()
    kernel, bias = fold_norm(Branch(conv.weight, conv.bias, norm))
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    assert_close(torch.nn.functional.conv2d(x, kernel, bias, padding=2, groups=4), norm(conv(x)))


def test_fold_norm_refuses_what_is_not_linear():
    with pytest.raises(TypeError, match='only a BatchNorm can be folded.*got GroupNorm'):
        fold_norm(Branch(torch.ones(2, 1, 1, 1), None, nn.GroupNorm(1, 2)))
    with pytest.raises(ValueError, match='track_running_stats=False'):
        fold_norm(Branch(torch.ones(2, 1, 1, 1), None, nn.BatchNorm2d(2, track_running_stats=False)))


def test_pad_kernel():
    padded = pad_kernel(torch.ones(1, 1, 1, 3), (3, 5))
    assert padded[0, 0].tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    with pytest.raises(ValueError, match=r'kernel of \(1, 3\) cannot be centred in one of \(3, 4\)'):
        pad_kernel(torch.ones(1, 1, 1, 3), (3, 4))


def test_merge_branches_gives_the_common_size():
    kernel, bias = merge_branches([Branch(torch.ones(1, 1, 5, 1)), Branch(torch.ones(1, 1, 1, 3), torch.ones(1))])
    assert kernel[0, 0].tolist() == [[0, 1, 0], [0, 1, 0], [1, 2, 1], [0, 1, 0], [0, 1, 0]]
    assert bias.tolist() == [1.0]


def test_switch_to_deploy_leaves_other_models_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    keys = set(model.state_dict())
    assert switch_to_deploy(model) is model
    assert set(model.state_dict()) == keys
    with pytest.raises(ValueError, match="form must be one of .* got 'round'"):
        switch_to_deploy(model, 'round')


class TestDeep:
    """Every BatchNorm behind a convolution goes; those elsewhere stay, and the outputs do too."""

    def check(self, model, run, left):
        model = randomise(model.double()).eval()
        fused = switch_to_deploy(copy.deepcopy(model), deep=True)
        for a, b in zip(run(fused), run(model), strict=True):
            assert relative_error(a, b) <= FUSION_NETWORK[torch.float64]
        norms = [name for name, module in fused.named_modules() if isinstance(module, nn.BatchNorm2d)]
        assert all(left in name for name in norms), norms
        twice = switch_to_deploy(copy.deepcopy(fused), deep=True)
        assert all(torch.equal(a, b) for a, b in zip(run(twice), run(fused), strict=True))
        return norms

    def test_backbone(self):
        net = MODELS.build(
            dict(type='mmlk.RepLKNet', arch='31b', depths=(1, 1, 1, 1), channels=(8, 8, 8, 8), kernel_size=(7, 7, 7, 7))
        )
        x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
        # The norms in front of each block follow no convolution.
        assert len(self.check(net, lambda net: net(x), 'norm')) == 8

    def test_segmentor(self):
        init_default_scope('mmseg')
        model = MODELS.build(
            dict(
                type='EncoderDecoder',
                backbone=dict(type='mmlk.PeLK', depths=(1, 1, 1, 1), width_factor=1 / 12, kernel_size=(7, 7, 7, 7)),
                decode_head=dict(
                    type='UPerHead',
                    in_channels=[8, 16, 32, 64],
                    in_index=[0, 1, 2, 3],
                    channels=8,
                    num_classes=5,
                    norm_cfg=dict(type='BN'),
                ),
            )
        )
        x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
        assert self.check(model, lambda model: model.encode_decode(x, [dict(img_shape=(64, 64))]), 'none') == []

import copy

import pytest
import torch
from numerics import FUSION_BLOCK, assert_close, randomise, relative_error
from torch import nn

from mmlk.models.layers import GlobalResponseNorm, GRNFeedForward, build_norm


def test_grn_hand_computed():
    grn = GlobalResponseNorm(2)
    x = torch.tensor([[3.0, 1.0], [4.0, 0.0]]).reshape(1, 2, 1, 2)
    # It starts as the identity.
    assert torch.equal(grn(x), x)
    grn.weight.data.copy_(torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2))
    grn.bias.data.fill_(10.0)
    # G = (5, 1), mean 3: n = (5/3, 1/3).
    expected = [[3 * (1 + 5 / 3) + 10, 1 + 2 / 3 + 10], [4 * (1 + 5 / 3) + 10, 10]]
    assert_close(grn(x).detach().reshape(2, 2), torch.tensor(expected))


def test_grn_parameters_have_the_authors_shape():
    assert [(name, tuple(p.shape)) for name, p in GlobalResponseNorm(3).named_parameters()] == [
        ('weight', (1, 1, 1, 3)),
        ('bias', (1, 1, 1, 3)),
    ]
    assert [name for name, _ in GlobalResponseNorm(3, bias=False).named_parameters()] == ['weight']


def plain_ffn(ffn: GRNFeedForward, x: torch.Tensor) -> torch.Tensor:
    y = torch.einsum('nchw,dc->ndhw', x, ffn.fc1.weight) + ffn.fc1.bias[:, None, None]
    y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
    response = y.square().sum((2, 3), keepdim=True).sqrt()
    response = response / (response.mean(1, keepdim=True) + 1e-6)
    y = (ffn.grn.weight.reshape(-1, 1, 1) * response + 1) * y + ffn.grn.bias.reshape(-1, 1, 1)
    y = ffn.norm(torch.einsum('nchw,dc->ndhw', y, ffn.fc2.weight))
    return y * ffn.layer_scale.gamma[:, None, None] if hasattr(ffn.layer_scale, 'gamma') else y


@pytest.mark.parametrize('layer_scale', [0.5, 0.0])
@pytest.mark.parametrize('training', [True, False])
def test_equals_the_equations(layer_scale, training):
    ffn = randomise(GRNFeedForward(6, dict(type='BN'), layer_scale).double()).train(training)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    assert_close(ffn(x), plain_ffn(copy.deepcopy(ffn), x))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('layer_scale', [0.5, 0.0])
def test_fused_form(layer_scale, dtype):
    ffn = randomise(GRNFeedForward(6, dict(type='BN'), layer_scale).to(dtype)).eval()
    fused = copy.deepcopy(ffn)
    fused.switch_to_deploy()
    x = torch.randn(2, 6, 5, 4, dtype=dtype)
    assert relative_error(fused(x), ffn(x)) <= FUSION_BLOCK[dtype]
    assert set(fused.state_dict()) == {'fc1.weight', 'fc1.bias', 'grn.weight', 'fc2.weight', 'fc2.bias'}
    built = GRNFeedForward(6, dict(type='BN'), layer_scale, deploy=True).to(dtype)
    built.load_state_dict(fused.state_dict(), strict=True)
    again = copy.deepcopy(fused)
    again.switch_to_deploy()
    assert torch.equal(built(x), fused(x))
    assert torch.equal(again(x), fused(x))


def test_only_a_batch_norm_can_be_folded():
    ffn = GRNFeedForward(6, dict(type='mmlk.LN2d'))
    assert isinstance(ffn.norm, type(build_norm(dict(type='mmlk.LN2d'), 6)))
    with pytest.raises(TypeError, match='only a BatchNorm can be folded.*got LayerNorm2d'):
        ffn.switch_to_deploy()
    assert not ffn.deployed
    assert isinstance(ffn.grn.bias, nn.Parameter)

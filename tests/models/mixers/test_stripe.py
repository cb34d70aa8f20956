import copy
import itertools

import pytest
import torch
from mmengine.registry import MODELS
from numerics import FUSION_BLOCK, assert_close, randomise, relative_error
from torch.nn import functional as F

import mmlk  # noqa: F401
from mmlk.models import LargeKernelConv2d, StripeMixer

BN = dict(type='BN')


def plain_stripe_conv(mixer, x):
    """Three padded convolutions and, after each, the affine map of a BatchNorm in evaluation."""
    y = torch.zeros_like(x)
    for part in ('vertical', 'horizontal', 'small'):
        weight = getattr(mixer, f'{part}_weight')
        out = F.conv2d(x, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=len(weight))
        if hasattr(mixer, f'{part}_norm'):
            norm = getattr(mixer, f'{part}_norm')
            mean, deviation = norm.running_mean[:, None, None], (norm.running_var + 1e-5).sqrt()[:, None, None]
            out = (out - mean) / deviation * norm.weight[:, None, None] + norm.bias[:, None, None]
        y = y + out
    return y


@pytest.mark.parametrize('norm_cfg', [BN, None], ids=['BN', 'no-norm'])
def test_equals_the_equation(norm_cfg):
    mixer = randomise(StripeMixer(6, 13, 5, norm_cfg=norm_cfg).double()).eval()
    assert mixer.vertical_weight.shape == (6, 1, 13, 5)
    assert mixer.horizontal_weight.shape == (6, 1, 5, 13)
    assert mixer.small_weight.shape == (6, 1, 5, 5)
    x = torch.randn(2, 6, 17, 9, dtype=torch.float64)
    assert_close(mixer(x), plain_stripe_conv(mixer, x))
    grad = torch.randn_like(x)
    parameters = list(mixer.parameters())
    actual = torch.autograd.grad(mixer(x), parameters, grad)
    expected = torch.autograd.grad(plain_stripe_conv(mixer, x), parameters, grad)
    for a, b in zip(actual, expected, strict=True):
        assert_close(a, b)


def test_vertical_is_high_and_horizontal_is_wide():
    """A single pixel spreads M rows up and down through the vertical strip, and nowhere else beyond the square."""
    mixer = StripeMixer(1, 7, 3, norm_cfg=None)
    for weight in mixer.parameters():
        torch.nn.init.zeros_(weight)
    torch.nn.init.ones_(mixer.vertical_weight)
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4] = 1
    with torch.no_grad():
        y = mixer(x)[0, 0]
    assert torch.equal(y.nonzero().amin(0), torch.tensor([1, 3]))
    assert torch.equal(y.nonzero().amax(0), torch.tensor([7, 5]))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ('sizes', 'norm_cfg', 'form'),
    list(itertools.product([(13, 5), (7, 3), (9, 1)], [BN, None], ['auto', 'strips', 'dense'])),
    ids=str,
)
def test_fused_form(sizes, norm_cfg, form, dtype):
    """Train form = fused form, on maps smaller than, equal to and larger than the kernel, even, odd and not square."""
    long, short = sizes
    mixer = randomise(StripeMixer(8, long, short, norm_cfg=norm_cfg).to(dtype)).eval()
    fused = copy.deepcopy(mixer)
    fused.switch_to_deploy(form)
    for height, width in [(4, 4), (long, long), (long + 5, long + 5), (long + 9, long - 2), (1, 1), (6, 6)]:
        x = torch.randn(2, 8, height, width, dtype=dtype)
        assert relative_error(fused(x), mixer(x)) <= FUSION_BLOCK[dtype]
    shapes = [tuple(conv.weight.shape[2:]) for conv in fused.reparam_convs]
    assert shapes == ([(long, long)] if form == 'dense' else [(long, short), (short, long)])
    # Nothing of the train form is left: kernels and one bias each.
    assert {key.split('.')[0] for key in fused.state_dict()} == {'reparam_convs'}
    assert sum(p.numel() for p in fused.parameters()) == 8 * sum(r * s + 1 for r, s in shapes)
    assert {type(module) for module in fused.modules()} == {StripeMixer, torch.nn.ModuleList, LargeKernelConv2d}
    assert not list(fused.buffers())
    # Twice is once, whatever form is asked for then; and it loads into a mixer built fused.
    again = copy.deepcopy(fused)
    again.switch_to_deploy('strips')
    built = StripeMixer(8, long, short, norm_cfg=norm_cfg, deploy=True if form == 'auto' else form).to(dtype)
    built.load_state_dict(fused.state_dict(), strict=True)
    x = torch.randn(2, 8, 9, 9, dtype=dtype)
    assert torch.equal(again(x), fused(x))
    assert torch.equal(built(x), fused(x))


def test_cross_kernel_hand_computed():
    """The strips cross in the N x N centre, where the square is added; the corners stay empty."""
    mixer = StripeMixer(1, 5, 3, norm_cfg=None)
    for weight, value in ((mixer.vertical_weight, 1), (mixer.horizontal_weight, 10), (mixer.small_weight, 100)):
        torch.nn.init.constant_(weight, value)
    ((cross, bias),) = mixer.fused_kernel_bias('dense')
    assert cross[0, 0].tolist() == [
        [0, 1, 1, 1, 0],
        [10, 111, 111, 111, 10],
        [10, 111, 111, 111, 10],
        [10, 111, 111, 111, 10],
        [0, 1, 1, 1, 0],
    ]
    assert bias.tolist() == [0]
    (vertical, _), (horizontal, _) = mixer.fused_kernel_bias('strips')
    assert vertical[0, 0].tolist() == [[1, 1, 1], [101, 101, 101], [101, 101, 101], [101, 101, 101], [1, 1, 1]]
    assert horizontal[0, 0].tolist() == [[10] * 5] * 3
    assert not mixer.deployed


@pytest.mark.parametrize('long', [51, 49, 47, 13])
def test_released_kernels_are_centred_exactly(long):
    mixer = StripeMixer(2, long)
    ((cross, _),) = mixer.fused_kernel_bias('dense')
    start, stop = (long - 5) // 2, (long + 5) // 2
    assert cross.shape == (2, 1, long, long)
    assert (cross[..., :start, :start] == 0).all() and (cross[..., stop:, stop:] == 0).all()
    assert (cross[..., start:stop] != 0).all() and (cross[..., start:stop, :] != 0).all()


def test_conv_norm_is_the_one_asked_for():
    mixer = MODELS.build(dict(type='mmlk.StripeMixer', channels=4, kernel_size=7, norm_cfg=dict(type='BN', eps=0.25)))
    assert [mixer.vertical_norm.eps, mixer.horizontal_norm.eps, mixer.small_norm.eps] == [0.25] * 3
    assert sum(p.numel() for p in mixer.parameters()) == 4 * (2 * 35 + 25 + 6)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(kernel_size=12), 'kernel_size must have positive odd edges.*got 12'),
        (dict(kernel_size=13, small_kernel=4), 'small_kernel must have positive odd edges.*got 4'),
        (dict(kernel_size=5), 'small_kernel must be smaller than kernel_size 5, got 5'),
        (dict(kernel_size=13, small_kernel=15), 'small_kernel must be smaller than kernel_size 13, got 15'),
        (dict(kernel_size=13, deploy='cross'), "form must be one of .* got 'cross'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        StripeMixer(16, **arguments)


def test_bad_input():
    with pytest.raises(ValueError, match=r'StripeMixer expects \(N, 16, H, W\), got \(1, 15, 4, 4\)'):
        StripeMixer(16, 7)(torch.ones(1, 15, 4, 4))

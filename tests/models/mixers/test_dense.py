import copy
import itertools

import pytest
import torch
from mmengine.registry import MODELS
from numerics import FUSION_BLOCK, assert_close, randomise, relative_error
from torch.nn import functional as F

import mmlk  # noqa: F401
from mmlk.models import DenseMixer, LargeKernelConv2d

#: The kernels of 31B and XL and small ones, with and without the parallel kernel.
OPTIONS = [
    dict(kernel_size=kernel_size, small_kernel=small)
    for kernel_size, small in itertools.product([31, 13, 7], [None, 5])
] + [
    dict(kernel_size=5, small_kernel=5),
    dict(kernel_size=27, small_kernel=1),
    dict(kernel_size=9, small_kernel=3, norm_cfg=None),
]


def option_id(options) -> str:
    return '-'.join(f'{key}={value}' for key, value in options.items())


def batch_norm(y, norm):
    if norm is None:
        return y
    scale = norm.weight / (norm.running_var + 1e-5).sqrt()
    return (y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize('options', OPTIONS, ids=option_id)
def test_equals_the_paper(options):
    """Two convolutions, a BatchNorm each (or none), and the sum of both."""
    mixer = randomise(DenseMixer(6, **options).double()).eval()
    norm, small_norm = getattr(mixer, 'norm', None), getattr(mixer, 'small_norm', None)
    x = torch.randn(2, 6, 11, 8, dtype=torch.float64)
    expected = batch_norm(F.conv2d(x, mixer.weight, padding=options['kernel_size'] // 2, groups=6), norm)
    if options['small_kernel'] is not None:
        y = F.conv2d(x, mixer.small_weight, padding=options['small_kernel'] // 2, groups=6)
        expected = expected + batch_norm(y, small_norm)
    assert_close(mixer(x), expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('options', OPTIONS, ids=option_id)
def test_fused_form(options, dtype):
    """Train form = fused form, on maps smaller than, equal to and larger than the kernel, even, odd and not square."""
    mixer = randomise(DenseMixer(4, **options).to(dtype)).eval()
    fused = copy.deepcopy(mixer)
    fused.switch_to_deploy('dense')
    k = options['kernel_size']
    # 7 x 7 under K = 13 and 12 x 12 under K = 31 are the last stages at 224 and 384 pixels.
    for height, width in [(7, 7), (12, 12), (k, k), (k + 5, k + 2), (k + 9, 4), (1, 1)]:
        x = torch.randn(2, 4, height, width, dtype=dtype)
        assert relative_error(fused(x), mixer(x)) <= FUSION_BLOCK[dtype]
    # Nothing of the train form is left: one kernel and one bias.
    assert [name for name, _ in fused.named_parameters()] == ['reparam_convs.0.weight', 'reparam_convs.0.bias']
    assert sum(p.numel() for p in fused.parameters()) == 4 * (k * k + 1)
    assert [type(module) for module in fused.modules()][1:] == [torch.nn.ModuleList, LargeKernelConv2d]
    assert not list(fused.buffers())
    assert not any(p.requires_grad for p in fused.parameters())
    # Twice is once; and it loads into a mixer built fused.
    again = copy.deepcopy(fused)
    again.switch_to_deploy()
    built = DenseMixer(4, **options, deploy=True).to(dtype)
    built.load_state_dict(fused.state_dict(), strict=True)
    x = torch.randn(2, 4, 9, 9, dtype=dtype)
    assert torch.equal(again(x), fused(x))
    assert torch.equal(built(x), fused(x))


def test_fused_kernel_hand_computed():
    """The small kernel goes to the centre: (K - k) / 2 zeros on each side, 13, 12, 11 and 4 in 31B."""
    for kernel_size, margin in [(31, 13), (29, 12), (27, 11), (13, 4)]:
        mixer = DenseMixer(2, kernel_size, small_kernel=5).double()
        with torch.no_grad():
            mixer.weight.zero_()
            mixer.small_weight.fill_(3.0)
            mixer.small_norm.running_var.fill_(4.0 - 1e-5)
            mixer.small_norm.running_mean.fill_(1.0)
            mixer.norm.bias.fill_(10.0)
        ((kernel, bias),) = mixer.fused_kernel_bias()
        expected = F.pad(torch.full((2, 1, 5, 5), 1.5, dtype=torch.float64), (margin,) * 4)
        assert_close(kernel, expected)
        assert_close(bias, torch.full((2,), 10.0 - 0.5, dtype=torch.float64))
        assert not mixer.deployed


def test_every_branch_has_its_own_statistics():
    mixer = DenseMixer(4, 7, small_kernel=3).train()
    mixer(torch.randn(2, 4, 9, 9) + 1)
    assert mixer.norm.num_batches_tracked == mixer.small_norm.num_batches_tracked == 1
    assert not torch.allclose(mixer.norm.running_mean, mixer.small_norm.running_mean)


def test_initialised_as_a_convolution():
    mixer = DenseMixer(64, 13, small_kernel=5)
    for weight, edge in ((mixer.weight, 13), (mixer.small_weight, 5)):
        assert 0.98 / edge < weight.abs().max() <= 1 / edge


def test_norm_cfg_is_used_and_no_global_remembers_it():
    kinds = []
    for arguments in (dict(norm_cfg=dict(type='SyncBN')), dict(), dict(norm_cfg=dict(type='BN', eps=1e-3))):
        mixer = DenseMixer(4, 7, small_kernel=5, **arguments)
        assert type(mixer.norm) is type(mixer.small_norm)
        kinds.append((type(mixer.norm).__name__, mixer.norm.eps))
    assert kinds == [('SyncBatchNorm', 1e-5), ('BatchNorm2d', 1e-5), ('BatchNorm2d', 1e-3)]


def test_from_config_alone():
    mixer = MODELS.build(dict(type='mmlk.DenseMixer', channels=8, kernel_size=31, small_kernel=5))
    assert mixer(torch.randn(1, 8, 14, 14)).shape == (1, 8, 14, 14)
    assert set(mixer.state_dict()) == {'weight', 'small_weight'} | {
        f'{norm}.{name}'
        for norm in ('norm', 'small_norm')
        for name in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    }


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(kernel_size=12), 'kernel_size must have positive odd edges.*got 12'),
        (dict(kernel_size=13, small_kernel=4), 'small_kernel must have positive odd edges.*got 4'),
        (dict(kernel_size=3, small_kernel=5), 'small_kernel must not exceed kernel_size 3, got 5'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DenseMixer(16, **arguments)


def test_bad_form():
    mixer = DenseMixer(4, 7)
    with pytest.raises(ValueError, match=r"DenseMixer has the fused forms \('dense',\), got form='strips'"):
        mixer.switch_to_deploy('strips')
    assert not mixer.deployed

import copy

import pytest
import torch
from mmengine.registry import MODELS
from numerics import FUSION_BLOCK, assert_close, randomise, relative_error

from mmlk.models import BaseMixer, DilatedReparamMixer, LargeKernelConv2d
from mmlk.models.mixers.dilated import DILATED_KERNELS, dilate_kernel

#: K -> (kernels, dilations, equivalent sizes) as the authors' table prints them.
TABLE = {
    17: ((5, 9, 3, 3, 3), (1, 2, 4, 5, 7), (5, 17, 9, 11, 15)),
    15: ((5, 7, 3, 3, 3), (1, 2, 3, 5, 7), (5, 13, 7, 11, 15)),
    13: ((5, 7, 3, 3, 3), (1, 2, 3, 4, 5), (5, 13, 7, 9, 11)),
    11: ((5, 5, 3, 3, 3), (1, 2, 3, 4, 5), (5, 9, 7, 9, 11)),
    9: ((5, 5, 3, 3), (1, 2, 3, 4), (5, 9, 7, 9)),
    7: ((5, 3, 3), (1, 2, 3), (5, 5, 7)),
    5: ((3, 3), (1, 2), (3, 5)),
}


def plain(mixer, x):
    """One shifted copy of the map per tap, a BatchNorm written out per branch."""

    def branch(weight, dilation, norm):
        k = weight.shape[-1]
        reach = dilation * (k // 2)
        padded = torch.nn.functional.pad(x, (reach,) * 4)
        y = sum(
            weight[:, 0, i, j, None, None]
            * padded[:, :, i * dilation :, j * dilation :][:, :, : x.shape[2], : x.shape[3]]
            for i in range(k)
            for j in range(k)
        )
        mean, var = norm.running_mean, norm.running_var
        if norm.training:
            mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
        scale = norm.weight / (var + norm.eps).sqrt()
        return y * scale[:, None, None] + (norm.bias - mean * scale)[:, None, None]

    y = branch(mixer.large_weight, 1, mixer.large_norm)
    for k, r in mixer.dilated_kernels:
        y = y + branch(mixer.dilated_weights[f'k{k}_d{r}'], r, mixer.dilated_norms[f'k{k}_d{r}'])
    return y


def test_table_of_the_authors():
    assert set(DILATED_KERNELS) == set(TABLE)
    for kernel_size, (kernels, dilations, spans) in TABLE.items():
        mixer = DilatedReparamMixer(4, kernel_size)
        assert mixer.dilated_kernels == tuple(zip(kernels, dilations, strict=True))
        assert tuple(branch.kernel.shape[-1] for branch in mixer.branches()) == (kernel_size, *spans)


@pytest.mark.parametrize('training', [False, True], ids=['eval', 'train'])
@pytest.mark.parametrize('kernel_size', [5, 9, 13])
def test_equals_the_equation(kernel_size, training):
    mixer = randomise(DilatedReparamMixer(3, kernel_size).double()).train(training)
    x = torch.randn(2, 3, 11, 6, dtype=torch.float64)
    expected = plain(mixer, x)
    assert_close(mixer(x), expected)
    grad = torch.randn_like(x)
    parameters = list(mixer.parameters())
    for actual, wanted in zip(
        torch.autograd.grad(mixer(x), parameters, grad), torch.autograd.grad(expected, parameters, grad), strict=True
    ):
        # In training the offset of the map is what BatchNorm removes: a gradient of a weight can be rounding only.
        assert (actual - wanted).norm() <= 1e-12 * max(wanted.norm().item(), 1.0)


def test_leaving_out_zeros_changes_nothing():
    """The forward pass uses dilation, the fusion the kernels with zeros: they are the same branches."""
    mixer = randomise(DilatedReparamMixer(4, 13).double()).train()
    for size in [(20, 20), (7, 7), (5, 16), (1, 1)]:
        x = torch.randn(3, 4, *size, dtype=torch.float64)
        assert_close(mixer.mix(x), BaseMixer.mix(mixer, x))


def test_dilated_kernel_hand_computed():
    kernel = torch.arange(1.0, 10).reshape(1, 1, 3, 3).requires_grad_()
    dense = dilate_kernel(kernel, 2)
    assert dense[0, 0].tolist() == [
        [1, 0, 2, 0, 3],
        [0, 0, 0, 0, 0],
        [4, 0, 5, 0, 6],
        [0, 0, 0, 0, 0],
        [7, 0, 8, 0, 9],
    ]
    dense.backward(torch.arange(25.0).reshape(1, 1, 5, 5))
    assert kernel.grad[0, 0].tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]
    assert torch.equal(dilate_kernel(kernel, 1), kernel)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    'options',
    [
        *(dict(kernel_size=k) for k in TABLE),
        dict(kernel_size=31, dilated_kernels=((7, 5), (5, 1))),
        dict(kernel_size=7, dilated_kernels=()),
    ],
    ids=lambda options: '-'.join(f'{key}={value}' for key, value in options.items()),
)
def test_fused_form(options, dtype):
    """Train form = fused form, on maps smaller than, equal to and larger than the kernel, even, odd and not square."""
    mixer = randomise(DilatedReparamMixer(6, **options).to(dtype)).eval()
    fused = copy.deepcopy(mixer)
    fused.switch_to_deploy()
    k = options['kernel_size']
    for height, width in [(k - 4, k - 4), (k, k), (k + 5, k + 5), (k + 9, k - 2), (1, 1), (6, 6)]:
        x = torch.randn(2, 6, height, width, dtype=dtype)
        assert relative_error(fused(x), mixer(x)) <= FUSION_BLOCK[dtype]
    assert [name for name, _ in fused.named_parameters()] == ['reparam_convs.0.weight', 'reparam_convs.0.bias']
    assert sum(p.numel() for p in fused.parameters()) == 6 * (k * k + 1)
    assert [type(module) for module in fused.modules()][1:] == [torch.nn.ModuleList, LargeKernelConv2d]
    assert not list(fused.buffers())
    assert not any(p.requires_grad for p in fused.parameters())
    again = copy.deepcopy(fused)
    again.switch_to_deploy('dense')
    built = DilatedReparamMixer(6, **options, deploy=True).to(dtype)
    built.load_state_dict(fused.state_dict(), strict=True)
    x = torch.randn(2, 6, 9, 9, dtype=dtype)
    assert torch.equal(again(x), fused(x))
    assert torch.equal(built(x), fused(x))


def test_fusing_keeps_the_device():
    mixer = DilatedReparamMixer(4, 7).to('meta')
    mixer.switch_to_deploy()
    assert {tensor.device.type for tensor in mixer.state_dict().values()} == {'meta'}


def test_norm_cfg_is_used():
    mixer = DilatedReparamMixer(4, 7, norm_cfg=dict(type='SyncBN', eps=1e-3))
    norms = [mixer.large_norm, *mixer.dilated_norms.values()]
    assert len(norms) == 4
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) and norm.eps == 1e-3 for norm in norms)


def test_from_config_alone():
    mixer = MODELS.build(dict(type='mmlk.DilatedReparamMixer', channels=64, kernel_size=13))
    assert mixer(torch.randn(1, 64, 14, 14)).shape == (1, 64, 14, 14)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(kernel_size=12), 'kernel_size must have positive odd edges.*got 12'),
        (dict(kernel_size=19), r'kernel_size without dilated_kernels must be one of \(5, 7, .*got 19'),
        (dict(kernel_size=13, dilated_kernels=((4, 1),)), 'a kernel of dilated_kernels must have .* got 4'),
        (dict(kernel_size=13, dilated_kernels=((7, 3),)), 'a kernel of 7 with dilation 3, which spans 19'),
        (
            dict(kernel_size=13, dilated_kernels=((3, 0),)),
            'dilations of at least 1 .* got a kernel of 3 with dilation 0',
        ),
        (dict(kernel_size=13, dilated_kernels=((3, 2), (3, 2))), 'must not name a pair twice'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DilatedReparamMixer(16, **arguments)


def test_bad_input_and_form():
    mixer = DilatedReparamMixer(16, 7)
    with pytest.raises(ValueError, match=r'DilatedReparamMixer expects \(N, 16, H, W\), got \(1, 15, 4, 4\)'):
        mixer(torch.ones(1, 15, 4, 4))
    with pytest.raises(ValueError, match=r"has the fused forms \('dense',\), got form='strips'"):
        mixer.switch_to_deploy('strips')
    assert not mixer.deployed

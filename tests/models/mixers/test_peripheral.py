import copy
import itertools

import pytest
import torch
from mmengine.registry import MODELS
from numerics import FUSION_BLOCK, assert_close, randomise, relative_error

import mmlk  # noqa: F401
from mmlk.models import KernelPositionEmbedding, LargeKernelConv2d, PeripheralMixer

#: Every combination of options, small: K = 13 with k' = 9 and K = 7 with an explicit grid.
OPTIONS = [
    dict(kernel_size=kernel_size, sharing_grid=grid, partial_ratio=ratio, small_kernel=small, **norm_or_embedding)
    for (kernel_size, grid), ratio, small, norm_or_embedding in itertools.product(
        [(13, None), (7, (3, 2, 1, 1))],
        [3 / 8, 1.0],
        [None, 5],
        [dict(), dict(position_embedding=False), dict(norm_cfg=dict(type='BN'))],
    )
]


def option_id(options) -> str:
    return '-'.join(f'{key}={value}' for key, value in options.items() if value not in (None, dict()))


def plain_peripheral_conv(mixer, x):
    """Eq. 1, 3 and 4 read literally: every tap looks up its region; h is added to every window, padding included."""
    kernel_size, grid = mixer.kernel_size[0], mixer.sharing_grid
    region = [index for index, group in enumerate(grid) for _ in range(group)]
    g = mixer.conv_channels
    half = kernel_size // 2
    padded = torch.nn.functional.pad(x[:, :g], (half,) * 4)
    h = mixer.position_embedding.weight if hasattr(mixer, 'position_embedding') else None
    out = torch.zeros_like(x[:, :g])
    for i in range(kernel_size):
        for j in range(kernel_size):
            window = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            if h is not None:
                window = window + h[:, i, j].reshape(1, -1, 1, 1)
            out += mixer.weight[:, 0, region[i], region[j]].reshape(1, -1, 1, 1) * window
    return torch.cat([out, x[:, g:]], dim=1)


@pytest.mark.parametrize('grid', [None, (2, 1, 4, 1, 3, 2)], ids=['own', 'explicit'])
@pytest.mark.parametrize('position_embedding', [True, False])
def test_equals_the_paper(grid, position_embedding):
    mixer = PeripheralMixer(9, 13, sharing_grid=grid, position_embedding=position_embedding).double()
    assert mixer.conv_channels == 3  # int(3 / 8 * 9)
    x = torch.randn(2, 9, 11, 6, dtype=torch.float64)
    assert_close(mixer(x), plain_peripheral_conv(mixer, x))
    # And so are the gradients of all parameters.
    grad = torch.randn_like(x)
    parameters = list(mixer.parameters())
    assert len(parameters) == 1 + position_embedding
    actual = torch.autograd.grad(mixer(x), parameters, grad)
    expected = torch.autograd.grad(plain_peripheral_conv(mixer, x), parameters, grad)
    for a, b in zip(actual, expected, strict=True):
        assert_close(a, b)


def test_expanded_kernel_hand_computed():
    mixer = PeripheralMixer(1, 5, sharing_grid=(2, 1, 2), partial_ratio=1.0, position_embedding=False)
    mixer.weight.data = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert mixer.expand_kernel()[0, 0].tolist() == [
        [0, 0, 1, 2, 2],
        [0, 0, 1, 2, 2],
        [3, 3, 4, 5, 5],
        [6, 6, 7, 8, 8],
        [6, 6, 7, 8, 8],
    ]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('options', OPTIONS, ids=option_id)
def test_fused_form(options, dtype):
    """Train form = fused form, on maps smaller than, equal to and larger than the kernel, even, odd and not square."""
    mixer = randomise(PeripheralMixer(16, **options).to(dtype)).eval()
    fused = copy.deepcopy(mixer)
    fused.switch_to_deploy()
    k = options['kernel_size']
    for height, width in [(k - 4, k - 4), (k, k), (k + 5, k + 5), (k + 9, k - 2), (1, 1), (6, 6)]:
        x = torch.randn(2, 16, height, width, dtype=dtype)
        assert relative_error(fused(x), mixer(x)) <= FUSION_BLOCK[dtype]
    # Nothing of the train form is left: one kernel and one bias.
    g = int(options['partial_ratio'] * 16)
    assert [name for name, _ in fused.named_parameters()] == ['reparam_convs.0.weight', 'reparam_convs.0.bias']
    assert sum(p.numel() for p in fused.parameters()) == g * (k * k + 1)
    assert [type(module) for module in fused.modules()][1:] == [torch.nn.ModuleList, LargeKernelConv2d]
    assert not list(fused.buffers())
    assert not any(p.requires_grad for p in fused.parameters())
    # Twice is once; and it loads into a mixer built fused.
    again = copy.deepcopy(fused)
    again.switch_to_deploy('dense')
    built = PeripheralMixer(16, **options, deploy=True).to(dtype)
    built.load_state_dict(fused.state_dict(), strict=True)
    x = torch.randn(2, 16, 9, 9, dtype=dtype)
    assert torch.equal(again(x), fused(x))
    assert torch.equal(built(x), fused(x))


def test_fused_kernel_bias_leaves_the_mixer_alone():
    mixer = PeripheralMixer(8, 7, center_radius=1)
    ((kernel, bias),) = mixer.fused_kernel_bias()
    assert not mixer.deployed
    assert_close(kernel, mixer.expand_kernel().detach())
    assert_close(bias, (kernel[:, 0] * mixer.position_embedding.weight).sum((1, 2)).detach())


def test_position_embedding_learns_and_can_be_shared():
    embedding = KernelPositionEmbedding(3, 13)
    mixers = torch.nn.ModuleList([PeripheralMixer(8, 13, position_embedding=embedding) for _ in range(2)])
    # Not registered in the mixers: whoever shares it owns it.
    assert [name for name, _ in mixers.named_parameters()] == ['0.weight', '1.weight']
    x = torch.randn(2, 8, 9, 9)
    (mixers[0](x).square().sum() + mixers[1](x).square().sum()).backward()
    assert embedding.weight.grad.norm() > 1e-3
    clone_embedding, clone = copy.deepcopy((embedding, mixers))
    assert clone[0]._shared_embedding[0] is clone_embedding
    with torch.no_grad():
        expected = mixers[1](x)
        embedding.weight.zero_()
        assert not torch.allclose(mixers[1](x), expected)
        assert torch.equal(clone[1](x), expected)


def test_from_config_alone():
    mixer = MODELS.build(dict(type='mmlk.PeripheralMixer', channels=64, kernel_size=51))
    assert mixer(torch.randn(1, 64, 14, 14)).shape == (1, 64, 14, 14)
    assert mixer.weight.shape == (24, 1, 13, 13)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(kernel_size=12), 'kernel_size must have positive odd edges.*got 12'),
        (
            dict(kernel_size=13, sharing_grid=(4, 4, 4)),
            r'sharing_grid must add up to kernel_size 13, got \(4, 4, 4\), which adds up to 12',
        ),
        (dict(kernel_size=13, sharing_grid=(6, 0, 7)), r'positive integers, got \(6, 0, 7\)'),
        (
            dict(kernel_size=13, partial_ratio=0.01),
            'partial_ratio must leave between 1 and 16 of 16 channels to convolve, got 0.01',
        ),
        (dict(kernel_size=13, partial_ratio=1.5), 'partial_ratio must leave .* got 1.5'),
        (dict(kernel_size=13, small_kernel=4), 'small_kernel must have positive odd edges.*got 4'),
        (dict(kernel_size=13, small_kernel=15), 'small_kernel must not exceed kernel_size 13, got 15'),
        (dict(kernel_size=13, position_embedding=True, norm_cfg=dict(type='BN')), 'position_embedding has no effect'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PeripheralMixer(16, **arguments)


def test_bad_input_and_form():
    mixer = PeripheralMixer(16, 7)
    with pytest.raises(ValueError, match=r'PeripheralMixer expects \(N, 16, H, W\), got \(1, 15, 4, 4\)'):
        mixer(torch.ones(1, 15, 4, 4))
    with pytest.raises(ValueError, match=r"has the fused forms \('dense',\), got form='strips'"):
        mixer.switch_to_deploy('strips')
    assert not mixer.deployed

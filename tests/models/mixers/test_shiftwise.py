import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from numerics import FUSION_BLOCK, assert_close, randomise, relative_error
from shiftwise_reference import shift_wise_conv
from torch import nn

import mmlk  # noqa: F401
from mmlk.models.layers import LargeKernelConv2d
from mmlk.models.mixers import ShiftWiseMixer

#: Strips longer to the right (M = 7, 13), to the left (11), centred (9); N of 3 and 5; with and without ghosts, norms.
OPTIONS = [
    dict(kernel_size=length, small_kernel=small, ghost_ratio=ratio, norm_cfg=norm, **more)
    for (length, small), ratio, norm, more in itertools.product(
        [(7, 3), (11, 3), (9, 3), (13, 5)],
        [0.23, 0.0],
        [dict(type='BN'), None],
        [dict(), dict(num_paths=1, num_arrangements=1, version='v1')],
    )
]


def option_id(options) -> str:
    return '-'.join(f'{key}={value}' for key, value in options.items())


def test_hand_computed_single_channel():
    """M 7, N 3, one channel, one arrangement; the tables of this fixture are given, not drawn."""
    mixer = ShiftWiseMixer(1, 7, ghost_ratio=0.0, num_paths=1, num_arrangements=1, version='v1', norm_cfg=None)
    mixer._placements[:] = 0
    for place, kernel in enumerate([1, 2, 0, 0, 1, 2, 1]):
        mixer._placements[0, place, kernel] = 1
    mixer.paths[0].data = torch.arange(1.0, 28.0).reshape(3, 1, 3, 3)
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    kernels = mixer.expand_kernels()
    assert [tuple(kernel.shape[2:]) for kernel in kernels] == [(3, 11), (11, 3), (3, 3)]
    h, v, s = (F.conv2d(x, k, padding=(k.shape[2] // 2, k.shape[3] // 2))[0, 0].tolist() for k in kernels)
    assert h == [[524, 682, 618, 542], [1221, 1524, 1368, 1194], [976, 1222, 1078, 922]]
    assert v == [[441, 708, 834, 576], [360, 573, 672, 459], [279, 438, 510, 342]]
    assert s == [[173, 301, 394, 283], [441, 708, 834, 576], [351, 547, 622, 421]]


def test_hand_computed_module():
    """C 5, M 7, N 3, two arrangements, two paths, channels 1, 3 and 4 are ghosts, no norm; all numbers are integers."""
    mixer = ShiftWiseMixer(5, 7, ghost_ratio=0.4, num_arrangements=2, norm_cfg=None)
    index = torch.arange(54)
    mixer.paths[0].data = ((index % 5) - 2.0).reshape(6, 1, 3, 3)
    mixer.paths[1].data = ((index % 3) - 1.0).reshape(6, 1, 3, 3)
    x = (3 * torch.arange(100) % 7 - 3.0).reshape(1, 5, 4, 5)
    y = mixer(x)[0]
    assert y[0].tolist() == [
        [7, -40, 8, 66, 10],
        [48, -23, -26, -13, -36],
        [29, -18, 31, -20, -38],
        [4, 9, 33, -27, 44],
    ]
    assert y[1].tolist() == [
        [-12, 10, -12, 51, -38],
        [12, -49, 4, 46, -52],
        [12, -8, 32, -56, -40],
        [6, -6, 40, -1, 3],
    ]
    # The ghosts come last and unchanged; nothing goes back to its place.
    assert torch.equal(y[2:], x[0, [1, 3, 4]])
    # The three maps before they are added.
    h, v, s = (
        F.conv2d(x[:, [0, 2]], k, padding=(k.shape[2] // 2, k.shape[3] // 2), groups=2)[0]
        for k in mixer.expand_kernels()
    )
    assert h[0].tolist() == [[3, -19, 3, 28, -7], [21, -24, 13, -4, -35], [0, -17, 29, -25, -1], [-4, -1, 33, -24, 29]]
    assert h[1].tolist() == [
        [-10, 8, -16, 10, 2],
        [-11, -27, 22, -10, -34],
        [-18, 28, 25, -36, -4],
        [-10, -3, 8, -5, 37],
    ]
    assert v[0].tolist() == [[11, -30, -3, 17, 11], [17, -5, -11, -17, -7], [13, 2, 11, -1, -7], [-3, 6, 0, -6, 18]]
    assert v[1].tolist() == [[-8, 0, 6, 33, -24], [10, -17, -11, 30, -17], [21, -14, 3, -15, -24], [6, -5, 23, 16, -22]]
    assert s[0].tolist() == [[-4, 9, 5, 22, 4], [12, 5, -25, 8, 3], [17, -5, -7, 5, -27], [11, 1, 1, 1, -1]]
    assert s[1].tolist() == [[8, 1, 1, 8, -19], [14, -7, -5, 25, 2], [9, -25, 5, -7, -10], [9, 5, 9, -15, -11]]


def plain_shiftwise(mixer, x, options):
    """The authors' module on the weights of a mixer."""
    norms = [nn.Identity()] * 3
    if options['norm_cfg'] is not None:
        norms = [mixer.horizontal_norm, mixer.vertical_norm, mixer.small_norm]
    return shift_wise_conv(
        x,
        list(mixer.paths),
        norms,
        options['kernel_size'],
        options['ghost_ratio'],
        options.get('num_arrangements', 4),
        options.get('version', 'v2'),
    )


@pytest.mark.parametrize('options', OPTIONS, ids=option_id)
def test_equals_shift_and_add(options):
    mixer = randomise(ShiftWiseMixer(9, **options).double())
    x = torch.randn(2, 9, 8, 11, dtype=torch.float64)
    for mode in (True, False):
        mixer.train(mode)
        twin = copy.deepcopy(mixer)
        assert_close(mixer(x), plain_shiftwise(twin, x, options))
        for a, b in zip(mixer.buffers(), twin.buffers(), strict=True):
            assert torch.allclose(a, b)
    # And so are the gradients of all parameters and of the input.
    mixer.train()
    grad, x = torch.randn_like(x), x.requires_grad_()
    actual = torch.autograd.grad(mixer(x), [x, *mixer.parameters()], grad)
    expected = torch.autograd.grad(plain_shiftwise(twin.train(), x, options), [x, *twin.parameters()], grad)
    for a, b in zip(actual, expected, strict=True):
        assert relative_error(a, b) < 1e-12


@pytest.mark.parametrize(
    ('length', 'small', 'count', 'first', 'last'),
    [
        *[(51, 3, 17, -25, 25), (49, 3, 17, -24, 26), (47, 3, 16, -23, 24), (45, 3, 15, -22, 22), (13, 3, 5, -6, 8)],
        *[(51, 5, 11, -25, 29), (49, 5, 10, -24, 25), (47, 5, 10, -23, 26), (45, 5, 9, -22, 22), (13, 5, 3, -6, 8)],
    ],
)
def test_span_of_the_strips(length, small, count, first, last):
    """Where M is no multiple of N, the kernel reaches nk N - M taps further to the right and to the bottom."""
    mixer = ShiftWiseMixer(4, length, small)
    for weight in mixer.paths:
        nn.init.ones_(weight)
    edge = 2 * max(-first, last) + 1
    assert (mixer.num_kernels, mixer.kernel_size) == (count, (edge, edge))
    horizontal, vertical, _ = mixer.expand_kernels()
    assert torch.equal(horizontal.transpose(2, 3), vertical)
    taps = (vertical[0, 0, :, 0] != 0).nonzero().flatten() - edge // 2
    assert (taps[0].item(), taps[-1].item(), len(taps)) == (first, last, count * small)


def test_strips_in_order_are_one_plain_strip():
    """With identity permutations, nk kernels side by side are the strip they were cut from (the authors' equ-SLaK)."""
    mixer = ShiftWiseMixer(3, 13, 5, ghost_ratio=0.0, num_paths=1, num_arrangements=1, version='v1', norm_cfg=None)
    mixer._placements[:] = 0
    mixer._placements[:, [0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 2]] = 1
    strip = torch.randn(3, 1, 5, 13)
    # Zeros at the end of the long axis, cut into blocks, output c nk + j.
    blocks = F.pad(strip, (0, 2)).unflatten(3, (3, 5)).permute(0, 3, 1, 2, 4).reshape(9, 1, 5, 5)
    mixer.paths[0].data = blocks
    x = torch.randn(1, 3, 9, 20)
    horizontal, vertical, _ = mixer.expand_kernels()
    expected = F.conv2d(x, strip, padding=(2, 6), groups=3)
    assert_close(F.conv2d(x, horizontal, padding=(2, horizontal.shape[3] // 2), groups=3), expected, torch.float32)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('form', ['auto', 'strips', 'dense'])
@pytest.mark.parametrize('options', OPTIONS, ids=option_id)
def test_fused_form(options, form, dtype):
    """Train form = fused form, on maps smaller than, equal to and larger than the kernel, even, odd and not square."""
    mixer = randomise(ShiftWiseMixer(9, **options).to(dtype)).eval()
    fused = copy.deepcopy(mixer)
    fused.switch_to_deploy(form)
    long, short = mixer.kernel_size[0], options['small_kernel']
    for height, width in [(long - 4, long - 4), (long, long), (long + 5, long - 2), (1, 1), (6, 6)]:
        x = torch.randn(2, 9, height, width, dtype=dtype)
        assert relative_error(fused(x), mixer(x)) <= FUSION_BLOCK[dtype]
    # Nothing of the train form is left.
    sizes = [(long, long)] if form == 'dense' else [(long, short), (short, long)]
    assert [tuple(conv.kernel_size) for conv in fused.reparam_convs] == sizes
    assert sum(p.numel() for p in fused.parameters()) == sum(mixer.conv_channels * (r * s + 1) for r, s in sizes)
    assert {type(module) for module in fused.modules()} == {ShiftWiseMixer, nn.ModuleList, LargeKernelConv2d}
    assert not list(fused.buffers())
    assert not any(p.requires_grad for p in fused.parameters())
    assert 'placements' not in fused._constants
    # Twice is once; and it loads into a mixer built fused.
    again = copy.deepcopy(fused)
    again.switch_to_deploy('dense')
    built = ShiftWiseMixer(9, **options, deploy=True if form == 'auto' else form).to(dtype)
    built.load_state_dict(fused.state_dict(), strict=True)
    assert torch.equal(again(x), fused(x))
    assert torch.equal(built(x), fused(x))


def test_paths_merge():
    """The authors' own merged form: one path with the sum of all."""
    mixer = randomise(ShiftWiseMixer(8, 13, num_paths=3).double()).eval()
    merged = ShiftWiseMixer(8, 13, num_paths=1).double().eval()
    state = {key: value for key, value in mixer.state_dict().items() if not key.startswith('paths')}
    merged.load_state_dict(state | {'paths.0': sum(mixer.paths)}, strict=True)
    x = torch.randn(1, 8, 9, 9, dtype=torch.float64)
    assert_close(merged(x), mixer(x))


def test_tables_survive_every_move():
    """They are no part of the state dict and are there after a build without storage, a cast and a copy."""
    mixer = ShiftWiseMixer(16, 13)
    assert set(dict(mixer.named_buffers())) == {
        f'{name}_norm.{entry}'
        for name in ('horizontal', 'vertical', 'small')
        for entry in ('running_mean', 'running_var', 'num_batches_tracked')
    }
    with torch.device('meta'):
        empty = ShiftWiseMixer(16, 13)
        assert empty(torch.empty(2, 16, 9, 9)).is_meta
    filled = empty.to_empty(device='cpu')
    filled.load_state_dict(mixer.state_dict(), strict=True)
    with torch.device('meta'):
        assigned = ShiftWiseMixer(16, 13)
    assigned.load_state_dict(mixer.state_dict(), strict=True, assign=True)
    x = torch.randn(2, 16, 9, 9)
    expected = mixer.eval()(x)
    for other in (filled, assigned, copy.deepcopy(mixer), copy.deepcopy(mixer).half().float().to('cpu')):
        assert relative_error(other.eval()(x), expected) < 1e-2
    assert torch.equal(filled(x), expected)
    assert torch.equal(assigned(x), expected)
    assert mixer.double()(x.double()).dtype == torch.float64


def test_inference_first_and_training_after():
    mixer, x = ShiftWiseMixer(16, 13), torch.randn(2, 16, 9, 9)
    with torch.inference_mode():
        mixer(x)
    mixer(x.requires_grad_()).sum().backward()
    assert mixer.paths[0].grad is not None


def test_compiles_without_a_break():
    mixer, x = ShiftWiseMixer(16, 13), torch.randn(2, 16, 9, 9)
    assert torch.equal(torch.compile(mixer, backend='eager', fullgraph=True)(x), mixer(x))


def test_building_leaves_the_global_generators_alone():
    """The authors seed them with 123 in every layer, which makes all that follows the same in every run."""
    torch.manual_seed(7)
    first = ShiftWiseMixer(8, 13).paths[0]
    torch.manual_seed(8)
    assert not torch.equal(first, ShiftWiseMixer(8, 13).paths[0])
    first, second = ShiftWiseMixer(8, 13), ShiftWiseMixer(8, 13)
    assert not torch.equal(first.paths[0], second.paths[0])
    assert (first._placements == second._placements).all()


def test_from_config_alone():
    mixer = MODELS.build(dict(type='mmlk.ShiftWiseMixer', channels=80, kernel_size=51))
    assert mixer(torch.randn(1, 80, 14, 14)).shape == (1, 80, 14, 14)
    assert [tuple(path.shape) for path in mixer.paths] == [(1020, 1, 3, 3)] * 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(kernel_size=12), 'kernel_size must have positive odd edges.*got 12'),
        (dict(kernel_size=13, small_kernel=4), 'small_kernel must have positive odd edges.*got 4'),
        (dict(kernel_size=13, small_kernel=15), 'small_kernel must not exceed kernel_size 13, got 15'),
        (dict(kernel_size=13, num_paths=0), 'num_paths must be at least 1, got 0'),
        (dict(kernel_size=13, num_arrangements=0), 'num_arrangements must be at least 1, got 0'),
        (dict(kernel_size=13, ghost_ratio=1.0), 'ghost_ratio must leave some of 16 channels to convolve, got 1.0'),
        (dict(kernel_size=13, version='v3'), r"version must be one of \('v1', 'v2'\), got 'v3'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShiftWiseMixer(16, **arguments)


def test_bad_input():
    with pytest.raises(ValueError, match=r'ShiftWiseMixer expects \(N, 16, H, W\), got \(1, 15, 4, 4\)'):
        ShiftWiseMixer(16, 7)(torch.ones(1, 15, 4, 4))

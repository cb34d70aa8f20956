"""Which convolutions are swapped, what stays as it was, and what the report says."""

import copy
import re
import subprocess
import sys
import warnings

import pytest
import torch
from mmcv.cnn import Conv2d as MmcvConv2d
from numerics import assert_close
from timm.layers import Conv2dSame
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import mmlk
from mmlk.nn import LargeKernelConv2d, accelerate


def depthwise(channels=4, kernel_size=7, padding=None, cls=nn.Conv2d, **options):
    edges = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    padding = tuple(edge // 2 for edge in edges) if padding is None else padding
    return cls(channels, options.pop('out_channels', channels), edges, padding=padding, groups=channels, **options)


def outcome(conv, **options):
    """'' where a convolution was swapped, else why it was left."""
    report = accelerate(nn.ModuleDict({'conv': conv}), **options)
    assert len(report.swapped) + len(report.left) == 1
    assert isinstance(conv, LargeKernelConv2d) == bool(report.swapped)
    return ''.join(found.reason for found in report.left)


class OnlyBuiltDifferently(nn.Conv2d):
    """A convolution as authors write them."""

    def __init__(self, channels, kernel_size):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)


class Standardised(OnlyBuiltDifferently):
    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Mixin:
    def fuse(self):
        return self


class WithMixin(nn.Conv2d, Mixin):
    pass


@pytest.mark.parametrize(
    'conv',
    [
        depthwise(),
        depthwise(kernel_size=(7, 3)),
        depthwise(kernel_size=(3, 7)),
        depthwise(kernel_size=31, bias=False),
        depthwise(padding='same'),
        depthwise(channels=1),
        depthwise(dtype=torch.bfloat16),
        depthwise(device='meta'),
        depthwise(cls=MmcvConv2d),
        OnlyBuiltDifferently(4, 9),
    ],
    ids=str,
)
def test_eligible(conv):
    settings = {name: getattr(conv, name) for name in ('stride', 'dilation', 'groups', 'kernel_size', 'training')}
    assert outcome(conv) == ''
    assert {name: getattr(conv, name) for name in settings} == settings
    # As built anew, padding included.
    anew = LargeKernelConv2d(conv.in_channels, conv.in_channels, conv.kernel_size, bias=conv.bias is not None)
    assert repr(conv) == repr(anew)
    assert vars(conv).keys() == vars(anew).keys()


@pytest.mark.parametrize(
    ('conv', 'reason'),
    [
        (depthwise(stride=2), r'stride is \(2, 2\), not \(1, 1\)'),
        (depthwise(padding=9, dilation=3), r'dilation is \(3, 3\), not \(1, 1\)'),
        (depthwise(padding=0), r'padding is \(0, 0\), not \(3, 3\)'),
        (depthwise(padding='valid'), r'padding is valid, not \(3, 3\)'),
        (depthwise(padding_mode='reflect'), 'padding_mode is reflect, not zeros'),
        (depthwise(out_channels=8), 'out_channels is 8, not 4'),
        (depthwise(stride=2, padding=1), r'stride is \(2, 2\), not \(1, 1\), padding is \(1, 1\), not \(3, 3\)'),
        (depthwise(kernel_size=8), 'its kernel has an even edge'),
        (depthwise(kernel_size=(3, 8)), 'its kernel has an even edge'),
        (depthwise(dtype=torch.complex64), 'its dtype is torch.complex64'),
        (nn.LazyConv2d(4, 7, padding=3, groups=4), 'it is lazy and was not run yet'),
        (depthwise(cls=Conv2dSame), 'its timm.layers.conv2d_same.Conv2dSame has forward of its own'),
        (Standardised(4, 7), 'its .*Standardised has forward of its own'),
        (depthwise(cls=WithMixin), 'its .*WithMixin has fuse of its own'),
        (torch.ao.nn.quantized.Conv2d(4, 4, 7, padding=3, groups=4), 'it is a torch.*quantized.*, not an nn.Conv2d'),
        (torch.jit.script(depthwise()), 'it is compiled by TorchScript'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_left_with_a_reason(conv, reason):
    before, attributes = type(conv), dict(vars(conv))
    assert re.fullmatch(reason, outcome(conv))
    assert type(conv) is before
    assert vars(conv) == attributes


def test_left_if_its_forward_was_replaced():
    conv = depthwise()
    conv.forward = lambda x: x
    assert outcome(conv) == 'its torch.nn.modules.conv.Conv2d has forward of its own'


def test_others_are_counted_only():
    others = [nn.Conv2d(4, 4, 7, padding=3), nn.Conv2d(4, 4, 7, padding=3, groups=2), depthwise(kernel_size=5)]
    others += [nn.Conv2d(1, 8, 7, padding=3), nn.ConvTranspose2d(4, 4, 7, padding=3, groups=4), nn.Conv1d(4, 4, 7)]
    model = nn.Sequential(*others)
    before = [type(module) for module in model]
    report = accelerate(model)
    assert (report.swapped, report.already, report.left, report.others) == ((), (), (), 4)
    assert [type(module) for module in model] == before
    assert str(report) == 'accelerate: nothing to do, found no depthwise nn.Conv2d with a kernel edge >= 7 (others: 4)'


def test_min_kernel():
    model = nn.Sequential(depthwise(kernel_size=5), depthwise(kernel_size=9))
    assert [found.name for found in accelerate(model, min_kernel=9).swapped] == ['1']
    assert [found.name for found in accelerate(model, min_kernel=5).swapped] == ['0']


def test_report_in_a_few_lines():
    model = nn.ModuleDict({f'block{i}': depthwise(kernel_size=31) for i in range(4)})
    model['stem'] = depthwise(stride=2)
    model['ours'] = LargeKernelConv2d(4, 4, 13)
    report = accelerate(model)
    assert str(report).splitlines() == [
        'accelerate: depthwise nn.Conv2d with a kernel edge >= 7: 4 swapped, 1 already swapped, 1 left',
        '  swapped 31 x 31: 4 (block0, block1 and 2 more)',
        '  already 13 x 13: 1 (ours)',
        '  left 7 x 7: 1 (stem), because stride is (2, 2), not (1, 1)',
    ]
    assert [found.name for found in report.swapped] == ['block0', 'block1', 'block2', 'block3']


def test_a_second_call_changes_nothing():
    model = nn.Sequential(depthwise(), nn.ReLU())
    first = accelerate(model, backend='reference')
    second = accelerate(model)
    assert (second.swapped, second.already) == ((), first.swapped)
    assert model[0].backend == 'reference'


def test_the_model_itself():
    conv = depthwise()
    report = accelerate(conv)
    assert isinstance(conv, LargeKernelConv2d)
    assert '(the model itself)' in str(report)


@pytest.mark.parametrize(
    ('model', 'options', 'error', 'message'),
    [
        ('convnext', {}, TypeError, 'model must be an nn.Module, got str'),
        (torch.jit.script(depthwise()), {}, TypeError, 'model must not be a TorchScript module'),
        (depthwise(), dict(backend='fastest'), ValueError, "backend must be None or one of .*, got 'fastest'"),
        (depthwise(), dict(min_kernel=0), ValueError, 'min_kernel must be an integer of at least 1, got 0'),
    ],
    ids=['string', 'scripted', 'backend', 'min_kernel'],
)
def test_what_it_cannot_do_raises(model, options, error, message):
    with pytest.raises(error, match=message):
        accelerate(model, **options)
    assert not isinstance(model, LargeKernelConv2d)


def test_everything_that_refers_to_the_module_still_does():
    conv = depthwise()
    conv.weight.requires_grad_(False)
    conv.eval()
    model = nn.ModuleDict({'a': conv, 'b': conv})
    model.by_the_author = [conv]
    model.register_buffer('scale', torch.ones(1))
    before, parameters, keys = dict(model.named_modules()), list(model.named_parameters()), list(model.state_dict())
    report = accelerate(model)
    assert [found.name for found in report.swapped] == ['a']
    assert model['a'] is model['b'] is model.by_the_author[0] is conv
    assert {name: id(module) for name, module in model.named_modules()} == {n: id(m) for n, m in before.items()}
    assert [(name, id(p)) for name, p in model.named_parameters()] == [(name, id(p)) for name, p in parameters]
    assert list(model.state_dict()) == keys
    assert not conv.weight.requires_grad
    assert conv.bias.requires_grad
    assert not conv.training


def test_an_optimizer_made_before_goes_on():
    plain = nn.Sequential(depthwise(), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    ours = copy.deepcopy(plain)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1) for model in (plain, ours)]
    for step in range(3):
        if step == 1:
            assert accelerate(ours).swapped
        x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
        for model, optimizer in zip((plain, ours), optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for expected, actual in zip(plain.parameters(), ours.parameters(), strict=True):
        assert_close(actual, expected)
    assert ours[0].weight in optimizers[1].state


def test_hooks_go_on_and_can_be_removed():
    conv = depthwise()
    seen = []
    handles = [
        conv.register_forward_pre_hook(lambda module, args: seen.append('forward_pre')),
        conv.register_forward_hook(lambda module, args, output: seen.append('forward')),
        conv.register_full_backward_pre_hook(lambda module, grad: seen.append('backward_pre')),
        conv.register_full_backward_hook(lambda module, grad_in, grad_out: seen.append('backward')),
    ]
    accelerate(conv)
    conv(torch.randn(1, 4, 8, 8, requires_grad=True)).sum().backward()
    assert seen == ['forward_pre', 'forward', 'backward_pre', 'backward']
    for handle in handles:
        handle.remove()
    conv(torch.randn(1, 4, 8, 8, requires_grad=True)).sum().backward()
    assert len(seen) == 4


def old_weight_norm(conv):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        return nn.utils.weight_norm(conv)


WEIGHTS = {
    'weight_norm': parametrizations.weight_norm,
    'spectral_norm': parametrizations.spectral_norm,
    'old_weight_norm': old_weight_norm,
    'old_spectral_norm': nn.utils.spectral_norm,
    'pruned': lambda conv: prune.random_unstructured(conv, 'weight', 0.5),
}


@pytest.mark.parametrize('compute', WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_computed(compute, ran):
    models = []
    for _ in range(2):  # built twice: torch cannot copy the older kinds
        torch.manual_seed(5)
        models.append(compute(depthwise().double()))
    plain, ours = models
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    accelerate(ours)
    assert list(before) == list(ours.state_dict())
    # Looking for convolutions must not run an iteration of spectral_norm.
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    for _ in range(2):
        x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
        results = [model(x) for model in models]
        for result in results:
            result.square().sum().backward()
        assert_close(results[1], results[0])
    assert len(ran) == 2
    for expected, actual in zip(plain.parameters(), ours.parameters(), strict=True):
        assert_close(actual.grad, expected.grad)


def test_parametrisation_ends_in_ours():
    conv = parametrizations.weight_norm(depthwise())
    accelerate(conv)
    twin = copy.deepcopy(conv)
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(twin(x), conv(x))
    assert accelerate(conv).already
    expected = conv(x)
    parametrize.remove_parametrizations(conv, 'weight')
    assert type(conv) is LargeKernelConv2d
    assert_close(conv(x), expected)


def test_graph_traced_before_and_after(ran):
    model = nn.Sequential(depthwise(), nn.ReLU())
    x = torch.randn(1, 4, 8, 8)
    expected = model(x)
    graph = torch.fx.symbolic_trace(copy.deepcopy(model))
    assert accelerate(graph).swapped
    accelerate(model)
    for traced in (graph, torch.fx.symbolic_trace(model)):
        ran.clear()
        assert_close(traced(x), expected)
        assert len(ran) == 1


def test_copied_and_saved_whole(tmp_path):
    model = nn.Sequential(depthwise(), nn.ReLU())
    accelerate(model)
    torch.save(model, tmp_path / 'model.pth')
    safe = [nn.Sequential, nn.ReLU, LargeKernelConv2d]
    with torch.serialization.safe_globals(safe):
        loaded = torch.load(tmp_path / 'model.pth', weights_only=True)
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(loaded(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_compiled_before_and_after(ran):
    model = nn.Sequential(depthwise(), nn.ReLU()).double()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    expected = compiled(x)
    assert not ran
    report = accelerate(compiled)
    assert [found.name for found in report.swapped] == ['_orig_mod.0']
    assert_close(compiled(x), expected)
    assert ran, 'the graph of the former class was run'


def test_name_at_the_top_of_the_package():
    assert mmlk.accelerate is accelerate
    assert 'accelerate' in dir(mmlk)
    with pytest.raises(AttributeError, match="module 'mmlk' has no attribute 'decelerate'"):
        _ = mmlk.decelerate


def test_importing_the_package_stays_light():
    code = """
import sys, mmlk
assert 'torch' not in sys.modules
from mmlk import accelerate
assert not {'mmengine', 'mmcv', 'timm', 'triton'} & set(sys.modules)
"""
    subprocess.run([sys.executable, '-c', code], check=True)

"""Networks of mmpretrain and timm compute the same before and after, gradients included."""

import copy

import pytest
import timm
import torch
from mmengine.registry import MODELS
from numerics import TOLERANCE, assert_close, randomise, relative_error
from timm.models.convnext import ConvNeXt
from timm.models.fastvit import FastVit
from torch import nn

from mmlk.nn import LargeKernelConv2d, accelerate

WIDTHS = (8, 16, 24, 32)


def mmpretrain(type, **arguments):
    import mmpretrain.models  # noqa: F401

    return MODELS.build(dict(type=f'mmpretrain.{type}', **arguments))


def mmpretrain_convnext():
    arch = dict(depths=[1, 2, 1, 1], channels=list(WIDTHS))
    return mmpretrain('ConvNeXt', arch=arch, out_indices=(0, 1, 2, 3), layer_scale_init_value=1.0)


def mmpretrain_replknet():
    arch = dict(
        large_kernel_sizes=[13, 11, 9, 7], layers=[1, 1, 1, 1], channels=list(WIDTHS), small_kernel=5, dw_ratio=1
    )
    return mmpretrain('RepLKNet', arch=arch, out_indices=(0, 1, 2, 3), drop_path_rate=0.0)


def mmpretrain_van():
    arch = dict(embed_dims=list(WIDTHS), depths=[1, 1, 1, 1], ffn_ratios=[2, 2, 2, 2])
    return mmpretrain('VAN', arch=arch, out_indices=(0, 1, 2, 3), drop_path_rate=0.0)


def timm_convnext():
    return ConvNeXt(depths=(1, 1, 1, 1), dims=WIDTHS, num_classes=5)


def timm_fastvit():
    mixers = ('repmixer',) * 4
    return FastVit(
        layers=(1, 1, 1, 1), token_mixers=mixers, embed_dims=(8, 16, 32, 64), mlp_ratios=(2,) * 4, num_classes=5
    )


#: Network, kernels swapped, number left.
NETWORKS = {
    'mmpretrain_convnext': (mmpretrain_convnext, [7] * 5, 0),
    'mmpretrain_replknet': (mmpretrain_replknet, [13, 11, 9, 7], 0),
    'mmpretrain_van': (mmpretrain_van, [], 4),
    'timm_convnext': (timm_convnext, [7] * 4, 0),
    'timm_fastvit': (timm_fastvit, [7] * 4, 3),
}


def run(model, x):
    """Output and gradients, each as one vector: a bias in front of a BatchNorm alone has none but rounding errors."""
    x = x.clone().requires_grad_()
    outputs = model(x)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    output = torch.cat([level.flatten() for level in outputs])
    torch.manual_seed(1)
    (output * torch.randn_like(output)).sum().backward()
    gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    return output.detach(), x.grad, gradients


@pytest.mark.parametrize(('build', 'swapped', 'left'), NETWORKS.values(), ids=NETWORKS)
def test_equal_before_and_after(build, swapped, left, ran):
    plain = randomise(build()).double()
    ours = copy.deepcopy(plain)
    keys = list(ours.state_dict())
    report = accelerate(ours)
    assert [found.kernel_size for found in report.swapped] == [(edge, edge) for edge in swapped]
    assert len(report.left) == left
    assert list(ours.state_dict()) == keys
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in plain.named_parameters()]
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for mode in (True, False):
        ran.clear()
        for model in (plain, ours):
            model.train(mode)
        results = [run(model, x) for model in (plain, ours)]
        assert [shape[2] for shape in ran] == swapped
        for expected, actual in zip(*results, strict=True):
            assert_close(actual, expected)
        for model in (plain, ours):
            model.zero_grad()
    for name, value in plain.state_dict().items():
        assert_close(ours.state_dict()[name], value, torch.float64)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_other_number_formats(dtype):
    """Against the same network in float64, no further from it than a few of the op's tolerances."""
    exact = randomise(timm_convnext()).to(dtype).double().eval()
    ours = copy.deepcopy(exact).to(dtype)
    assert accelerate(ours).swapped
    x = torch.randn(2, 3, 64, 64).to(dtype)
    with torch.no_grad():
        assert relative_error(ours(x), exact(x.double())) < 4 * TOLERANCE[dtype]


def test_dilated_convolutions_of_van_stay():
    report = accelerate(mmpretrain_van())
    assert {found.reason for found in report.left} == {'dilation is (3, 3), not (1, 1)'}
    assert accelerate(mmpretrain_van(), min_kernel=5).swapped, 'the 5 x 5 ones of mmcv are eligible'
    assert 'left 7 x 7: 4 (' in str(report)


def test_network_without_large_kernels():
    model = timm.create_model('resnet18', pretrained=False, num_classes=2)
    report = accelerate(model)
    assert str(report) == 'accelerate: nothing to do, found no depthwise nn.Conv2d with a kernel edge >= 7 (others: 20)'


def test_mmpretrain_replknet_fuses_after_it():
    model = randomise(mmpretrain_replknet()).double()
    model.eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = model(x)
    accelerate(model)
    model.switch_to_deploy()
    assert not any(isinstance(module, LargeKernelConv2d) for module in model.modules())
    for actual, wanted in zip(model(x), expected, strict=True):
        assert_close(actual, wanted, torch.float64)
    # What it fused into are new convolutions.
    assert len(accelerate(model).swapped) == 4
    for actual, wanted in zip(model(x), expected, strict=True):
        assert_close(actual, wanted, torch.float64)


def test_timm_reparameterises_after_it():
    model = randomise(timm_fastvit()).double().eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = model(x)
    accelerate(model)
    fused = timm.utils.reparameterize_model(model)
    assert sum(isinstance(module, nn.Conv2d) for module in fused.modules()) < sum(
        isinstance(module, nn.Conv2d) for module in model.modules()
    )
    assert_close(fused(x), expected)
    accelerate(fused)
    assert_close(fused(x), expected)


def test_compiles_in_one_graph(ran):
    plain = timm_convnext().double().eval()
    ours = copy.deepcopy(plain)
    accelerate(ours)
    compiled = torch.compile(ours, backend='eager', fullgraph=True)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    results = [run(model, x) for model in (plain, compiled)]
    assert len(ran) == 4
    for expected, actual in zip(*results, strict=True):
        assert_close(actual, expected)

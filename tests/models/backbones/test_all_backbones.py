"""Every registered backbone, tiny, against what it declares. A new family is tested the day it is added to TINY."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from numerics import FUSION_NETWORK, randomise, relative_error
from torch import nn

from mmlk.models import BaseLargeKernelBackbone, BaseMixer, switch_to_deploy
from mmlk.registry import MODELS as MMLK_MODELS

#: The smallest network of each family that still takes every code path.
TINY = {
    'PeLK': dict(arch='t', depths=(1, 1, 4, 1), width_factor=1 / 6, kernel_size=(13, 13, 9, 7), center_radius=1),
    'SLaK': dict(arch='t', depths=(1, 1, 4, 1), width_factor=1 / 6, kernel_size=(13, 13, 9, 7, 5)),
    'RepLKNet': dict(arch='31b', depths=(1, 1, 2, 1), channels=(8, 16, 24, 32), kernel_size=(13, 13, 9, 7)),
    'ShiftWiseNet': dict(
        arch='v2_t', depths=(1, 1, 4, 1), base_channels=(24, 32, 40, 48), kernel_size=(13, 13, 9, 7, 3)
    ),
    'UniRepLKNet': dict(arch='t', depths=(1, 1, 3, 1), channels=(24, 32, 40, 48), kernel_size=(3, 13, (9, 5), 7)),
}
VARIANTS = {
    'PeLK': [
        dict(),
        dict(conv_norm_cfg=dict(type='BN'), small_kernel=5),
        dict(norm_cfg=dict(type='BN'), layer_scale_init_value=0.5, position_embedding=False, partial_ratio=1.0),
    ],
    'SLaK': [
        dict(),
        dict(decompose=False),
        dict(kernel_size=(9, 7, 7, 7, 100)),
        dict(norm_cfg=dict(type='BN'), layer_scale_init_value=0, conv_norm_cfg=None),
    ],
    'RepLKNet': [
        dict(),
        dict(small_kernel=None, dw_ratio=1.5, norm_intermediate_features=True),
    ],
    'ShiftWiseNet': [
        dict(),
        dict(version='v1', norm_cfg=dict(type='BN')),
        dict(version='v1', conv_norm_cfg=None, ghost_ratio=0.0),
        dict(kernel_size=(13, 11, 9, 7, 5), num_paths=1, num_arrangements=1, layer_scale_init_value=0),
    ],
    'UniRepLKNet': [
        dict(),
        dict(layer_norm_cfg=dict(type='BN'), layer_scale_init_value=0, kernel_size=(5, 17, 11, 3)),
    ],
}
CASES = [(name, variant) for name, variants in VARIANTS.items() for variant in variants]


def build(name, **changes) -> nn.Module:
    MMLK_MODELS.import_from_location()
    return MODELS.build(dict(type=f'mmlk.{name}') | TINY[name] | changes)


def case_id(value) -> str:
    return '-'.join(value) or 'default' if isinstance(value, dict) else value


def test_every_registered_backbone_is_here():
    MMLK_MODELS.import_from_location()
    registered = {
        name
        for name, cls in MMLK_MODELS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, BaseLargeKernelBackbone)
    }
    assert registered == set(TINY) == set(VARIANTS)


@pytest.mark.parametrize(('name', 'variant'), CASES, ids=case_id)
class TestEveryVariant:
    def test_declared_channels_and_strides(self, name, variant):
        net = build(name, **variant).eval()
        outputs = net(torch.randn(2, 3, 64, 96))
        assert isinstance(outputs, tuple)
        assert [tuple(y.shape) for y in outputs] == [
            (2, channels, 64 // stride, 96 // stride)
            for channels, stride in zip(net.channels, (4, 8, 16, 32), strict=True)
        ]

    def test_every_parameter_gets_a_gradient(self, name, variant):
        net = randomise(build(name, **variant)).train()
        sum((y * torch.randn_like(y)).sum() for y in net(torch.randn(2, 3, 64, 64))).backward()
        without = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert without == []

    @pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
    def test_fused_form(self, name, variant, dtype):
        net = randomise(build(name, **variant).to(dtype)).eval()
        fused = switch_to_deploy(copy.deepcopy(net))
        twice = switch_to_deploy(copy.deepcopy(fused))
        built = build(name, **variant, deploy=True).to(dtype).eval()
        built.load_state_dict(fused.state_dict(), strict=True)
        for size in [(64, 64), (33, 50), (96, 32)]:
            x = torch.randn(1, 3, *size, dtype=dtype)
            for a, b, c, d in zip(fused(x), net(x), twice(x), built(x), strict=True):
                assert relative_error(a, b) <= FUSION_NETWORK[dtype]
                assert torch.equal(a, c)
                assert torch.equal(a, d)
        for mixer in (module for module in fused.modules() if isinstance(module, BaseMixer)):
            assert {key.split('.')[0] for key in mixer.state_dict()} == {'reparam_convs'}
            sizes = [r * s + 1 for r, s in mixer.deploy_kernel_sizes(mixer.forms[0])]
            assert sum(p.numel() for p in mixer.parameters()) == mixer.conv_channels * sum(sizes)
        assert not any('position_embedding' in key for key in fused.state_dict())

    def test_hooks_see_the_output_before_its_norm(self, name, variant):
        net = randomise(build(name, **variant)).eval()
        seen = []
        net.stages[3].register_forward_hook(lambda module, inputs, output: seen.append(output))
        x = torch.randn(1, 3, 64, 64)
        outputs = net(x)
        norm = getattr(net, 'norm3', nn.Identity())
        assert torch.equal(norm(seen[0]), outputs[3])
        switch_to_deploy(net)(x)
        assert relative_error(seen[1], seen[0]) <= FUSION_NETWORK[torch.float32]


@pytest.mark.parametrize('name', TINY)
class TestCommonArguments:
    def test_checkpointing_changes_nothing(self, name):
        plain = randomise(build(name, drop_path_rate=0.5)).train()
        with_cp = build(name, drop_path_rate=0.5, with_cp=True).train()
        with_cp.load_state_dict(plain.state_dict())
        x = torch.randn(4, 3, 64, 64)
        results = []
        for net in (plain, with_cp):
            torch.manual_seed(1)
            y = net(x)[-1]
            y.square().sum().backward()
            results.append((y, [p.grad for p in net.parameters() if p.grad is not None], dict(net.named_buffers())))
        assert torch.equal(results[0][0], results[1][0])
        for a, b in zip(results[0][1], results[1][1], strict=True):
            assert torch.equal(a, b)
        # A BatchNorm sees the batch once, not again when activations are recomputed.
        for key, buffer in results[0][2].items():
            assert torch.equal(results[1][2][key], buffer), key

    @pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3, 4])
    def test_frozen_stages(self, name, frozen_stages):
        net = build(name, frozen_stages=frozen_stages, drop_path_rate=0.1).train()
        for key, parameter in net.named_parameters():
            part, _, rest = key.partition('.')
            stage = int(rest[0]) if part in ('downsample_layers', 'stages') else 99
            frozen = stage < frozen_stages or (frozen_stages == 0 and key.startswith('downsample_layers.0.'))
            assert parameter.requires_grad is not frozen, key
        for index in range(4):
            assert net.stages[index].training is (index >= frozen_stages)

    def test_norm_eval(self, name):
        for norm_eval in (True, False):
            net = build(name, norm_cfg=dict(type='BN'), norm_eval=norm_eval).train()
            modes = [module.training for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
            assert modes == [not norm_eval] * len(modes) != []
            assert net.stages[0].training

    def test_norm_cfg_is_used(self, name):
        # UniRepLKNet's LayerNorms have an argument of their own.
        own = {'UniRepLKNet': dict(layer_norm_cfg=dict(type='BN'))}.get(name, {})
        kinds = {type(module) for module in build(name, norm_cfg=dict(type='BN'), **own).modules()}
        assert nn.BatchNorm2d in kinds
        assert not any(issubclass(kind, nn.LayerNorm) for kind in kinds)

    def test_out_indices(self, name):
        net = build(name).eval()
        some = build(name, out_indices=(1, 3)).eval()
        some.load_state_dict(net.state_dict(), strict=False)
        x = torch.randn(1, 3, 64, 64)
        for a, b in zip(some(x), [net(x)[1], net(x)[3]], strict=True):
            assert torch.equal(a, b)

    def test_final_norm(self, name):
        """The authors' classifiers: mean over the map, then LayerNorm; RepLKNet's BatchNorm comes before the mean."""
        net = randomise(build(name, final_norm=True)).eval()
        last = []
        net.stages[3].register_forward_hook(lambda module, inputs, output: last.append(output))
        (vector,) = net(torch.randn(2, 3, 64, 64))
        if name == 'RepLKNet':
            expected = net.norm(last[0]).mean((2, 3))
        else:
            expected = nn.functional.layer_norm(
                last[0].mean((2, 3)), net.channels[3:], net.norm.weight, net.norm.bias, 1e-6
            )
        assert vector.shape == (2, net.channels[3])
        assert torch.allclose(vector, expected, atol=1e-6)

    def test_drop_path_grows_linearly(self, name):
        net = build(name, drop_path_rate=0.3)
        rates = [getattr(block.drop_path, 'drop_prob', 0.0) for stage in net.stages for block in stage.blocks]
        if name == 'RepLKNet':
            # A block with the large kernel and the ConvFFN behind it share a rate.
            assert rates[::2] == rates[1::2]
            rates = rates[::2]
        assert rates == pytest.approx(torch.linspace(0, 0.3, len(rates)).tolist())

    def test_building_changes_no_global_state(self, name):
        before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.get_default_dtype()
        build(name)
        assert before == (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.get_default_dtype())

    @pytest.mark.parametrize(
        ('change', 'error', 'message'),
        [
            (dict(arch='xxl'), ValueError, r"arch of \w+ must be one of \[.*got 'xxl'"),
            (dict(arch=dict(depths=(1, 1, 1, 1))), ValueError, r"arch of \w+ must have the fields .*got \['depths'\]"),
            (dict(kernel_size=(13, 12, 9, 7)), ValueError, 'positive odd edges.*got 12|must hold five entries'),
            (dict(kernel_size=(13, 13, 9)), ValueError, 'kernel_size must hold (four|five) entries'),
            (dict(depths=(1, 1, 0, 1)), ValueError, r'depths must hold four positive integers.*\(1, 1, 0, 1\)'),
            (dict(kernel=5), TypeError, "unexpected keyword argument 'kernel'"),
            (dict(out_indices=(0, 4)), ValueError, r'out_indices must name stages 0 to 3, got \(0, 4\)'),
            (dict(final_norm=True, out_indices=(0, 3)), ValueError, r'must be \(3,\) with final_norm=True'),
            (dict(frozen_stages=5), ValueError, 'frozen_stages must be between -1 and 4, got 5'),
            (dict(drop_path_rate=1.0), ValueError, r'drop_path_rate must be in \[0, 1\), got 1.0'),
            (dict(backend='fast'), ValueError, "got 'fast'"),
            (dict(depths=(1, 'two', 1, 1)), ValueError, 'depths must hold four positive integers'),
            (dict(depths=(1, 1.5, 1, 1)), ValueError, 'depths must hold four positive integers'),
            (dict(depths=4), ValueError, 'depths must hold four positive integers, one per stage, got 4'),
            (dict(depths=(10**9, 1, 1, 1)), ValueError, 'depths must be 1000 blocks or less per stage'),
            (dict(drop_path_rate='high'), ValueError, r'drop_path_rate must be in \[0, 1\), got high'),
            (dict(drop_path_rate=float('nan')), ValueError, r'drop_path_rate must be in \[0, 1\), got nan'),
            (dict(out_indices=3.5), ValueError, 'out_indices must name stages 0 to 3, got'),
            (dict(out_indices='all'), ValueError, 'out_indices must name stages 0 to 3, got'),
        ],
        ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
    )
    def test_bad_arguments(self, name, change, error, message):
        with pytest.raises(error, match=message):
            build(name, **change)(torch.randn(1, 3, 32, 32))

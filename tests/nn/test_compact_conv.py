import copy

import pytest
import torch
import torch.nn.functional as F

from mmlk.nn.compact_conv import CompactConv2d, KernelGroup

GROUPS = [KernelGroup(2, ((5, 3), (1, 7))), KernelGroup(1, ()), KernelGroup(2, None), KernelGroup(1, ((3, 3),))]

SOURCES = [[5, 0], [2], [1, 4], [3]]
#: Where these six go.
TARGETS = [5, 0, 2, 3, 1, 4]


def scattered() -> CompactConv2d:
    """Six channels in another order, the same in and out but for those that pass by."""
    conv = CompactConv2d(GROUPS, dtype=torch.float64)
    for part, sources in zip(conv.parts, SOURCES, strict=True):
        part.sources.copy_(torch.tensor(sources))
    conv.order.copy_(torch.tensor(TARGETS).argsort())
    for parameter in conv.parameters():
        parameter.normal_()
    return conv


def by_hand(conv: CompactConv2d, x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    targets = iter(TARGETS)
    for part, group, sources in zip(conv.parts, GROUPS, SOURCES, strict=True):
        for index, source in enumerate(sources):
            target = next(targets)
            plane = x[:, source : source + 1]
            if group.kernel_sizes == ():
                out[:, target] = part.bias[index]
            elif group.kernel_sizes is None:
                out[:, target] = plane[:, 0]
            else:
                y = part.convs[0].bias[index]
                for inner in part.convs:
                    edges = inner.weight.shape[2:]
                    y = y + F.conv2d(plane, inner.weight[index : index + 1], padding=(edges[0] // 2, edges[1] // 2))
                out[:, target] = y[:, 0]
    return out


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_equals_channel_by_channel(layout):
    conv = scattered()
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64).contiguous(memory_format=layout)
    y = conv(x)
    torch.testing.assert_close(y, by_hand(conv, x), rtol=0, atol=1e-13)
    assert y.is_contiguous(memory_format=layout)


def test_input_gradient():
    conv = scattered()
    x = torch.randn(1, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    found, expected = (torch.autograd.grad(f(x).pow(2).sum(), x)[0] for f in (conv, lambda x: by_hand(conv, x)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    # The input of the constant channel does not matter.
    assert found[:, 2].abs().max() == 0


def test_one_group_moves_nothing():
    conv = CompactConv2d([KernelGroup(3, ((3, 5),))])
    assert set(conv.state_dict()) == {'parts.0.convs.0.weight', 'parts.0.convs.0.bias'}
    x = torch.randn(1, 3, 6, 6)
    inner = conv.parts[0].convs[0]
    torch.testing.assert_close(conv(x), F.conv2d(x, inner.weight, inner.bias, padding=(1, 2), groups=3))


def test_rebuilt_from_its_state():
    conv = scattered()
    again = CompactConv2d.from_state(conv.state_dict()).double()
    assert again.groups == conv.groups
    again.load_state_dict(conv.state_dict())
    x = torch.randn(1, 6, 7, 7, dtype=torch.float64)
    assert torch.equal(again(x), conv(x))
    with pytest.raises(ValueError, match=r"state dict of a CompactConv2d, got the keys \['weight'\]"):
        CompactConv2d.from_state({'weight': torch.ones(1)})


def test_autocast():
    conv = scattered().float()
    x = torch.randn(1, 6, 7, 7)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), conv(x), rtol=0.05, atol=0.05)


def test_exports_and_runs_on_the_meta_device():
    conv = scattered().float()
    x = torch.randn(2, 6, 7, 7)
    program = torch.export.export(conv, (x,))
    torch.testing.assert_close(program.module()(x), conv(x))
    assert copy.deepcopy(conv).to('meta')(x.to('meta')).shape == x.shape


def test_bad_arguments():
    with pytest.raises(ValueError, match='one or more with a channel or more'):
        CompactConv2d([])
    with pytest.raises(ValueError, match='one or more with a channel or more'):
        CompactConv2d([KernelGroup(0, ())])
    with pytest.raises(ValueError, match=r'expects \(N, 6, H, W\), got \(1, 5, 7, 7\)'):
        scattered()(torch.ones(1, 5, 7, 7))

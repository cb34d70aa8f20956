"""Non-zero parameters and multiply-accumulates, from masks and from zeros of the weights."""

import pytest
import torch
from classifier import classifier_on_meta
from torch import nn

from mmlk.analysis.complexity import LayerComplexity, backbone_complexity, sparse_complexity
from mmlk.benchmarks.shrink import Case, build
from mmlk.models import ShiftWiseMixer, SLaK, StripeMixer
from mmlk.models.shrink import shrink_kernels
from mmlk.sparsity import select_parameters


class Literal(nn.Module):
    """A convolution on 4 x 4 pixels, a depthwise and a transposed one on 2 x 2, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 1, stride=2)
        self.depthwise = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(2, 2, 2, stride=2, bias=False)
        self.head = nn.Linear(2, 5)

    def forward(self, x):
        return self.head(self.up(self.depthwise(self.stem(x))).mean((2, 3)))


def test_counted_by_hand():
    net = Literal()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1)
        net.stem.weight[0, :2] = 0
        net.depthwise.weight[1] = 0
        net.head.weight[:, 0] = 0
        # Biases are never counted as zero.
        net.head.bias.zero_()
    found = sparse_complexity(net, (4, 4))
    assert found.layers == (
        LayerComplexity('stem', 6, 4, 4 * 6, 4 * 4),
        LayerComplexity('depthwise', 18, 9, 4 * 18, 4 * 9),
        LayerComplexity('up', 16, 16, 4 * 16, 4 * 16),
        LayerComplexity('head', 10, 5, 10, 5),
    )
    assert found.other_params == 2 + 5
    assert (found.dense.params, found.dense.macs) == (57, 170)
    assert (found.nonzero.params, found.nonzero.macs) == (41, 121)
    assert found.layers[1].density == 0.5


def test_masks_instead_of_values():
    """The values do not matter, whole kernels have one entry, and what has no mask counts whole."""
    with torch.device('meta'):
        net = Literal()
    masks = {
        'stem.weight': torch.tensor([0, 0, 1, 1, 1, 1]).view(2, 3, 1, 1).bool(),
        'depthwise.weight': torch.tensor([True, False]).view(2, 1, 1, 1),
        'head.weight': torch.tensor([[False, True]]),
    }
    found = sparse_complexity(net, (4, 4), masks)
    assert (found.nonzero.params, found.nonzero.macs) == (41, 121)
    with pytest.raises(ValueError, match='on the meta device has no weights to count: give masks'):
        sparse_complexity(net, (4, 4))
    with pytest.raises(ValueError, match='must be of weights of the network, got one of tail'):
        sparse_complexity(net, (4, 4), {'tail': torch.ones(1)})
    with pytest.raises(ValueError, match=r'mask of head.weight must expand to \(5, 2\), got \(3, 2\)'):
        sparse_complexity(net, (4, 4), {'head.weight': torch.ones(3, 2)})


def exact_masks(net: nn.Module, density: float) -> dict[str, torch.Tensor]:
    """Masks of all weights that training makes sparse, with exactly that share of entries."""
    masks = {}
    for name, weight in select_parameters(net).items():
        mask = torch.zeros(weight.numel(), dtype=torch.bool)
        mask[: round(density * weight.numel())] = True
        masks[name] = mask[torch.randperm(weight.numel())].view(weight.shape)
    return masks


def test_uniform_masks_reproduce_the_papers_rule():
    """SLaK's 0.6 of everything, but for what is never sparse: biases, norms and layer scales."""
    net = classifier_on_meta('mmlk.SLaK', arch='t', width_factor=0.5, num_classes=100)
    masks = exact_masks(net.backbone, 0.6)
    found = sparse_complexity(net.backbone, (64, 64), masks)
    rule = backbone_complexity(net.backbone, (64, 64), 0.6)
    maskable = sum(mask.numel() for mask in masks.values())
    assert found.dense.params == sum(p.numel() for p in net.backbone.parameters())
    assert found.nonzero.params == pytest.approx(found.dense.params - 0.4 * maskable, abs=len(masks))
    assert found.nonzero.params == pytest.approx(rule.params, rel=0.01)
    assert found.nonzero.macs == pytest.approx(0.6 * found.dense.macs, rel=1e-4)
    # The rule counts the merged form, which has the small square inside a strip: about 1 % less.
    assert rule.macs < found.nonzero.macs < 1.02 * rule.macs


def test_slak_t_at_forty_percent():
    """The published 30 M: exact counts at full size, with the classifier."""
    net = classifier_on_meta('mmlk.SLaK', arch='t')
    masks = {}
    for name, weight in net.named_parameters():
        if weight.dim() in (2, 4):
            mask = torch.zeros(weight.numel(), dtype=torch.bool)
            mask[: round(0.6 * weight.numel())] = True
            masks[name] = mask.view(weight.shape)
    found = sparse_complexity(net, (32, 32), masks)
    assert found.dense.params == 50_703_838
    assert found.nonzero.params == pytest.approx(30_473_228, rel=1e-6)


def test_mixer_counts_the_taps_of_its_kernels():
    """SLaK: one multiply per weight and pixel. SW: every live small kernel lies in both strips, once an arrangement."""

    class Net(nn.Module):
        def __init__(self, mixer):
            super().__init__()
            self.stem = nn.Conv2d(3, mixer.channels, 1, bias=False)
            self.mixer = mixer

        def forward(self, x):
            return self.mixer(self.stem(x))

    slak = Net(StripeMixer(4, 7, small_kernel=3, norm_cfg=None))
    pixels = 5 * 6
    layer = sparse_complexity(slak, (5, 6)).layers[1]
    assert (layer.name, layer.weights, layer.macs) == ('mixer', 4 * 51, pixels * 4 * 51)
    sw = ShiftWiseMixer(4, 9, ghost_ratio=0.0, num_arrangements=1, norm_cfg=None)
    net = Net(sw)
    # Per channel one of its three small kernels, in both paths: 9 taps in each strip, and 9 at the centre if it is
    # drawn for that.
    mask = torch.tensor([True, False, False]).repeat(4).view(-1, 1, 1, 1)
    masks = {f'mixer.paths.{path}': mask for path in range(2)}
    layer = sparse_complexity(net, (5, 6), masks).layers[1]
    center = int(sw._placements[:, -1, 0].sum())
    assert layer.weights == 2 * 4 * 3 * 9
    assert layer.nonzero == 2 * 4 * 9
    assert layer.nonzero_macs == pixels * (4 * 18 + 9 * center)
    # A mask per path: the sum of two kernels is zero where both are.
    masks['mixer.paths.1'] = mask.roll(1, 0)
    assert sparse_complexity(net, (5, 6), masks).layers[1].nonzero_macs >= 2 * pixels * 4 * 18


def test_four_arrangements_fill_the_merged_kernel():
    """What a merged SW kernel costs when 30 % of the small kernels are pruned: almost everything."""
    share = {}
    for arrangements in (1, 4):
        net = build(Case('SW-T', 'kernels', 0.3, arrangements), depths=(1, 1, 1, 1), width_factor=0.5)
        layers = [layer for layer in sparse_complexity(net, (64, 64)).layers if 'reparam_convs' in layer.name]
        assert len(layers) == 8
        share[arrangements] = sum(layer.nonzero for layer in layers) / sum(layer.weights for layer in layers)
    assert share[1] < 0.72
    assert share[4] > 0.9


def test_merged_and_shrunk_forms():
    """Merged from masks as from weights; cutting zeros changes the number of weights, not of non-zero ones."""
    net = SLaK(width_factor=0.25, depths=(1, 1, 1, 1))
    mixer = net.stages[0].blocks[0].mixer
    with torch.no_grad():
        for weight in (mixer.vertical_weight, mixer.horizontal_weight, mixer.small_weight):
            weight[:20] = 0
    masks = {name: p != 0 for name, p in net.named_parameters() if p.dim() in (2, 4)}
    merged = sparse_complexity(net, (64, 64), merged=True)
    assert merged.nonzero == sparse_complexity(net, (64, 64), masks, merged=True).nonzero
    # The square lies in both strips; in the fused form only one holds it.
    assert merged.nonzero.macs < sparse_complexity(net, (64, 64)).nonzero.macs
    assert mixer.reparam_convs is None
    fused = build(Case('SLaK-T', 'channels', 0.5), depths=(1, 1, 1, 1), width_factor=0.25)
    before = sparse_complexity(fused, (64, 64))
    assert shrink_kernels(fused, (512, 512), 4).shrunk
    after = sparse_complexity(fused, (64, 64))
    assert after.dense.macs < before.dense.macs
    # The centre of a cross lies in both strips before, and in the first one after.
    assert after.nonzero.macs <= before.nonzero.macs
    assert after.nonzero.macs == pytest.approx(before.nonzero.macs, rel=0.02)

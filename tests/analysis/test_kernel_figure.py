"""Kernels as they are drawn: branches that add up to the fused kernel; the sharing grid of PeLK."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mmlk.analysis.kernel_figure import draw_kernels, draw_sharing_grid, stage_kernels
from mmlk.errors import UsageError
from mmlk.models import DenseMixer, PeripheralMixer, ShiftWiseMixer, StripeMixer, switch_to_deploy


def with_statistics(mixer):
    for norm in mixer.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return mixer


@pytest.mark.parametrize(
    ('build', 'labels'),
    [
        (lambda: StripeMixer(4, 13), ['13 x 5', '5 x 13', '5 x 5']),
        (lambda: DenseMixer(4, 13, small_kernel=5), ['13 x 13', '5 x 5']),
        (lambda: PeripheralMixer(16, 13), []),
        (lambda: ShiftWiseMixer(16, 13), ['17 x 3', '3 x 17', '3 x 3', '1 x 1']),
    ],
    ids=['strips', 'dense', 'peripheral', 'shift-wise'],
)
def test_branches_add_up_to_the_fused_kernel(build, labels):
    mixer = with_statistics(build())
    (block,) = stage_kernels(nn.Sequential(nn.Conv2d(3, 4, 3), mixer))
    assert [label for label, _ in block.branches] == labels
    if block.branches:
        np.testing.assert_allclose(sum(kernels for _, kernels in block.branches), block.fused, atol=1e-12)
    switch_to_deploy(mixer, 'dense')
    (fused,) = stage_kernels(mixer)
    assert fused.branches == ()
    np.testing.assert_allclose(fused.fused, block.fused, atol=1e-6)


def test_other_networks():
    stage = nn.Sequential(nn.Conv2d(4, 4, 7, groups=4), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 7))
    (block,) = stage_kernels(stage)
    assert (block.name, block.branches, block.fused.shape) == ('0', (), (4, 7, 7))
    assert torch.equal(torch.tensor(block.fused).float(), stage[0].weight[:, 0])
    with pytest.raises(UsageError, match='depthwise kernels with an edge of 5 or more in the stage, found none'):
        stage_kernels(stage[1:])


def test_draws_kernels(tmp_path):
    path = tmp_path / 'new' / 'kernels.png'
    (block,) = stage_kernels(with_statistics(StripeMixer(8, 13)))
    figure = draw_kernels(block, path, title='a title', channels=3)
    assert cv2.imread(str(path)).shape[0] > 300
    # Three branches and their sum; three channels and the mean.
    assert len(figure.axes) == 4 * 4
    assert [axis.get_ylabel() for axis in figure.axes[::4]] == ['13 x 5', '5 x 13', '5 x 5', 'fused']
    assert [axis.get_title() for axis in figure.axes[:4]] == ['channel 0', 'channel 2', 'channel 5', 'mean |w|']
    assert list(path.parent.iterdir()) == [path]


def test_more_channels_than_there_are():
    (block,) = stage_kernels(StripeMixer(2, 13))
    assert len(draw_kernels(block, channels=8).axes) == 4 * 3


def test_draws_the_sharing_grid(tmp_path):
    path = tmp_path / 'grid.png'
    figure = draw_sharing_grid(31, path)
    assert cv2.imread(str(path)).shape[0] > 300
    assert figure.axes[0].get_title() == '31 x 31 taps, 11 x 11 = 121 parameters instead of 961'
    shared = figure.axes[0].images[0].get_array()
    # The corner group is 7 x 7, the taps of the centre stand alone, and every parameter counts once.
    assert (shared[0, 0], shared[15, 15], shared[0, 15]) == (49, 1, 7)
    assert (1 / shared).sum() == pytest.approx(121)
    with pytest.raises(ValueError, match=r'must add up to kernel_size 31, got \(1, 2\), which adds up to 3'):
        draw_sharing_grid(31, grid=(1, 2))

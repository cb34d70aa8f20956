"""The shift-wise convolution as its authors compute it: grouped convolutions, shifts, additions."""

import itertools

import torch
import torch.nn.functional as F

from mmlk.models.mixers.shift_index import make_ghost_split, make_shift_tables


def shift_and_add(z, length, small, tables):
    """Shift the output of every small kernel to its slots and add up; outside its bounds it is 0.

    Args:
        z: Outputs of the small kernels with padding N - 1, (N, C nk, H + 2 e, W + 2 e), e = N - 1 - N // 2.
        length: Focus length M.
        small: Edge N of the small kernels.
        tables: Where each goes.

    Returns:
        Horizontal, vertical and centre maps (N, C, H, W).
    """
    arrangements, channels, count = tables.horizontal.shape
    e = (small - 1) - small // 2
    height, width = z.shape[2] - 2 * e, z.shape[3] - 2 * e
    horizontal, vertical, center = (
        [torch.zeros_like(z[:, 0, :height, :width]) for _ in range(channels)] for _ in range(3)
    )
    far = length + small * count
    z = F.pad(z, (far,) * 4)

    def window(kernel, top, left):
        return z[:, kernel, far + top : far + top + height, far + left : far + left + width]

    for a, c in itertools.product(range(arrangements), range(channels)):
        for j in range(count):
            shift = length // 2 - j * small - (small - 1)
            horizontal[c] = horizontal[c] + window(c * count + tables.horizontal[a, c, j], e, -shift)
            vertical[c] = vertical[c] + window(c * count + tables.vertical[a, c, j], -shift, e)
        center[c] = center[c] + window(c * count + tables.center[a, c], e, e)
    return [torch.stack(maps, 1) for maps in (horizontal, vertical, center)]


def shift_wise_conv(x, paths, norms, length, ghost_ratio, num_arrangements, version):
    """The authors' module: the paths summed, shift and add, three norms, the identity, the ghosts appended.

    Args:
        x: Map (N, C, H, W).
        paths: Weights (C' nk, 1, N, N) of the grouped convolutions.
        norms: Applied to the horizontal, vertical and centre map.
        length: Focus length M.
        ghost_ratio: Share of the channels that pass by.
        num_arrangements: Arrangements of the small kernels.
        version: Rounding of the number of ghosts.
    """
    small = paths[0].shape[-1]
    convolved, ghost = (
        x[:, torch.from_numpy(part).long()] for part in make_ghost_split(x.shape[1], ghost_ratio, version)
    )
    channels = convolved.shape[1]
    z = sum(F.conv2d(convolved, weight, padding=small - 1, groups=channels) for weight in paths)
    tables = make_shift_tables(-(-length // small), channels, num_arrangements)
    maps = shift_and_add(z, length, small, tables)
    return torch.cat([sum(norm(y) for norm, y in zip(norms, maps, strict=True)) + convolved, ghost], 1)

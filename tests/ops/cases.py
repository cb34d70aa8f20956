"""Shapes on which every backend of depthwise_conv2d is tested (N, C, H, W, R, S), and the definition of the op."""

import torch
import torch.nn.functional as F

CASES = [
    (2, 8, 13, 17, 31, 5),  # stripe, kernel larger than the map
    (2, 3, 17, 13, 5, 31),
    (1, 4, 14, 14, 51, 51),
    (2, 4, 32, 32, 7, 7),
    (2, 2, 24, 20, 13, 13),
    (3, 2, 7, 200, 3, 21),
    (2, 3, 7, 7, 13, 13),
    (1, 1, 1, 1, 9, 9),
    (4, 5, 1, 1, 1, 1),
    (0, 3, 8, 8, 5, 5),  # an empty batch
]


def case_id(case) -> str:
    n, c, h, w, r, s = case
    return f'N{n}-C{c}-H{h}xW{w}-K{r}x{s}'


def literal(x, weight, bias):
    """The equation of the docstring, tap by tap in float64."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    r, s = weight.shape[2:]
    padded = F.pad(x, (s // 2, s // 2, r // 2, r // 2))
    y = bias[None, :, None, None].expand(x.shape).clone()
    for i in range(r):
        for j in range(s):
            y += weight[None, :, 0, i, j, None, None] * padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
    return y


def make(case, dtype):
    n, c, h, w, r, s = case
    return torch.randn(n, c, h, w, dtype=dtype), torch.randn(c, 1, r, s, dtype=dtype), torch.randn(c, dtype=dtype)

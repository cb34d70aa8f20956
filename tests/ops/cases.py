"""Shapes on which every backend of depthwise_conv2d is tested: N, C, H, W, R, S."""

CASES = [
    (2, 8, 13, 17, 31, 5),  # stripe, kernel larger than the map
    (2, 3, 17, 13, 5, 31),
    (1, 4, 14, 14, 51, 51),
    (2, 4, 32, 32, 7, 7),
    (2, 2, 24, 20, 13, 13),
    (3, 2, 7, 200, 3, 21),
    (1, 1, 1, 1, 9, 9),
    (4, 5, 1, 1, 1, 1),
    (0, 3, 8, 8, 5, 5),  # an empty batch
]


def case_id(case) -> str:
    n, c, h, w, r, s = case
    return f'N{n}-C{c}-H{h}xW{w}-K{r}x{s}'

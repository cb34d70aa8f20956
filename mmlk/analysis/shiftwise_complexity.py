"""Size of networks with shift-wise convolution, by the rule that reproduces the papers' figures.

The authors count their own merged form: one path, every small kernel as a grouped convolution with its padded output,
no shifts and no additions, all weights although training leaves 30 % of the filters at zero. The strips that are
computed here cost about twice that.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from mmlk.analysis.complexity import Complexity, count_macs, count_params
from mmlk.models import ShiftWiseMixer


def shiftwise_complexity(model: nn.Module, input_size: tuple[int, int]) -> Complexity:
    """Parameters and multiply-accumulates of a backbone or a classifier with :class:`ShiftWiseMixer`.

    Args:
        model: Network in train form; called with an image (1, 3, H, W).
        input_size: (H, W) in pixels.
    """
    model = copy.deepcopy(model).to('meta').eval()
    mixers = [module for module in model.modules() if isinstance(module, ShiftWiseMixer)]
    params = count_params(model) - sum(path.numel() for mixer in mixers for path in mixer.paths[1:])
    macs = 0

    def count_small_kernels(mixer: ShiftWiseMixer, inputs, output: torch.Tensor) -> None:
        nonlocal macs
        height, width = (edge + mixer.small_kernel - 1 for edge in output.shape[2:])
        macs += mixer.paths[0].numel() * height * width

    for mixer in mixers:
        mixer.register_forward_hook(count_small_kernels)
    # The convolutions of a mixer are no layers, so they are not counted twice.
    layers = count_macs(model, lambda net: net(torch.empty(1, 3, *input_size, device='meta')))
    return Complexity(params, layers + macs)

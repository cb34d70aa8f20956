"""Multiply-accumulates of a network in the form it has, train-time branches included."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mmlk.analysis.complexity import count_macs
from mmlk.models import BaseMixer, DilatedReparamMixer


def count_form_macs(model: nn.Module, run: Callable[[nn.Module], object]) -> int:
    """Multiply-accumulates of convolution and linear layers and of the mixers' branches during ``run(model)``.

    :func:`~mmlk.analysis.complexity.count_macs` counts layers, which branches of a mixer are not, and its results are
    those of the papers for merged networks; of a fused network this counts the same.
    """
    branches = 0

    def count_branches(mixer: BaseMixer, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal branches
        positions = output.shape[0] * output.shape[2] * output.shape[3]
        branches += positions * _count_taps(mixer)

    mixers = [m for m in model.modules() if isinstance(m, BaseMixer) and not m.deployed]
    handles = [mixer.register_forward_hook(count_branches) for mixer in mixers]
    try:
        layers = count_macs(model, run)
    finally:
        for handle in handles:
            handle.remove()
    return layers + branches


def _count_taps(mixer: BaseMixer) -> int:
    """Weights of all kernels of all branches, shared ones at every place."""
    if isinstance(mixer, DilatedReparamMixer):
        # Its branches are written with zeros between the taps, which forward leaves out.
        return sum(weight.numel() for weight in (mixer.large_weight, *mixer.dilated_weights.values()))
    return sum(branch.kernel.numel() for branch in mixer.branches())

"""The contribution of every pixel to the centre of a feature map, averaged over images."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmlk.analysis.erf.features import FeatureMaps, pick_stage
from mmlk.analysis.erf.recompute import recomputed
from mmlk.errors import UsageError


@dataclass(frozen=True, eq=False)
class Erf:
    """The effective receptive field of the centre of one stage.

    Attributes:
        matrix: Mean contribution (H, W) of each pixel, float64.
        stage: Index of the stage, from 0.
        map_size: (h, w) of its feature map.
        num_images: Images averaged over.
    """

    matrix: NDArray[np.float64]
    stage: int
    map_size: tuple[int, int]
    num_images: int

    @property
    def unit(self) -> tuple[int, int]:
        """Row and column of the unit that was looked at, (h // 2, w // 2)."""
        return self.map_size[0] // 2, self.map_size[1] // 2

    @property
    def unit_centre(self) -> tuple[float, float]:
        """Row and column of the middle of that unit's cell in the image, in pixels.

        In a map with even edges no unit is in the middle: the one that is taken lies half a stride below and to the
        right of the centre of the image.
        """
        return tuple(
            (unit + 0.5) * pixels / edge - 0.5
            for unit, pixels, edge in zip(self.unit, self.matrix.shape, self.map_size, strict=True)
        )


def contribution_map(feature: Tensor, image: Tensor, retain_graph: bool = False) -> Tensor:
    """What each pixel contributes to the centre of a feature map.

    Equation: P = sum over colours of relu(dz / dI), z = sum over channels c of relu(F[c, h // 2, w // 2]).

    Args:
        feature: Feature map F (1, C, h, w), computed from ``image``.
        image: Image I (1, 3, H, W) that requires a gradient.
        retain_graph: Keep what the network stored, to look at another map of the same pass.

    Returns:
        Tensor (H, W), float64, on the CPU.

    Raises:
        UsageError: The gradient holds infinite or undefined numbers.
    """
    height, width = feature.shape[2:]
    score = feature[:, :, height // 2, width // 2].relu().sum()
    (gradient,) = torch.autograd.grad(score, image, retain_graph=retain_graph)
    contribution = gradient.relu().sum((0, 1)).double().cpu()
    if not contribution.isfinite().all():
        raise UsageError('the gradient holds infinite or undefined numbers; check the weights of the network')
    return contribution


def effective_receptive_fields(
    network: nn.Module, images: Iterable[Tensor], stages: Sequence[int] | None = (-1,), recompute: bool = False
) -> list[Erf]:
    """Average :func:`contribution_map` over images.

    The network is in evaluation mode meanwhile and afterwards as it was: modes, gradients, statistics and the state of
    the random generators stay untouched.

    Args:
        network: Any network :class:`FeatureMaps` understands.
        images: Normalised images (1, 3, H, W), one size; read one by one, so a generator keeps only one in memory.
        stages: Stages to look at, as indices, negative ones from the end; ``None`` means all.
        recompute: Store only the inputs of the network's blocks and compute these twice: a third more time, a
            fraction of the memory, the same result.

    Returns:
        One field per stage.

    Raises:
        UsageError: There is no image, no feature map, no such stage, or a gradient that is zero everywhere or not
            finite.

    Example:
        >>> convolution = nn.Conv2d(3, 1, 3, padding=1, bias=False)
        >>> _ = nn.init.ones_(convolution.weight)
        >>> (erf,) = effective_receptive_fields(convolution, [torch.ones(1, 3, 7, 7)])
        >>> erf.matrix[:, 3]
        array([0., 0., 3., 3., 3., 0., 0.])
    """
    features = FeatureMaps(network)
    device = next((parameter.device for parameter in network.parameters()), torch.device('cpu'))
    sums: dict[int, Tensor] = {}
    sizes: dict[int, tuple[int, int]] = {}
    count = 0
    with observed(network), recomputed(network) if recompute else nullcontext():
        for image in images:
            image = image.detach().to(device).requires_grad_()
            maps = features(image)
            asked = range(len(maps)) if stages is None else stages
            wanted = [pick_stage(maps, stage, tuple(image.shape[2:])) for stage in asked]
            for position, stage in enumerate(wanted):
                found = contribution_map(maps[stage], image, retain_graph=position + 1 < len(wanted))
                sums[position] = sums.get(position, 0) + found
                sizes[position] = stage, tuple(maps[stage].shape[2:])
            count += 1
            # The graph of this image is not to live on beside that of the next.
            del maps, image
    if not count:
        raise UsageError('an effective receptive field needs at least one image, got none')
    fields = [Erf((total / count).numpy(), *sizes[position], count) for position, total in sums.items()]
    for field in fields:
        if not field.matrix.any():
            raise UsageError(
                f'no pixel contributes to the centre of stage {field.stage}: the gradient is zero everywhere; give '
                'trained weights or other images'
            )
    return fields


@contextmanager
def observed(network: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients for the image only; everything of the network and of chance is put back."""
    modes = {module: module.training for module in network.modules()}
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = sorted({p.device.index for p in network.parameters() if p.is_cuda})
    try:
        with torch.random.fork_rng(devices), torch.enable_grad():
            network.eval()
            for parameter in wanted:
                # Without, every layer would keep its input for the gradient of its weight.
                parameter.requires_grad_(False)
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, training in modes.items():
            # Not train(), which networks override to freeze stages again.
            module.training = training
        random.setstate(python_state)
        np.random.set_state(numpy_state)

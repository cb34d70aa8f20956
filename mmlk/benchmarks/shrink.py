"""What cutting zeros out of fused kernels gains: networks with masked weights, before and after."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

from mmlk.benchmarks.timing import Clock, Timing, no_garbage_collection, repeats_for, touch_memory
from mmlk.models import BaseMixer, ShiftWiseMixer, ShiftWiseNet, SLaK, StripeMixer, switch_to_deploy
from mmlk.models.shrink import ShrinkReport, shrink_kernels
from mmlk.nn.compact_conv import CompactConv2d

#: Zero kernels per layer that the authors' run of SW-T ended with (figure analysis/sparsity.pdf of their repository),
#: of so many in a layer of each stage.
RELEASED_ZEROS = (
    (99, 0, 459),
    (0, 427, 1230),
    (2046, 830, 440, 917, 850, 1075, 1677, 1597, 1185, 1572, 1138, 677, 820, 957, 1263, 1517, 1167, 1582),
    (1233, 740, 868),
)
RELEASED_KERNELS = (1020, 2074, 3936, 2460)

#: The largest block that glibc serves from memory it keeps. Freed once, as larger maps of a network are, it keeps later
#: ones from being handed back to the system and cleared anew at every call.
_LARGEST_KEPT = 31 << 20

#: Outputs before and after agree within this times the largest output: only the order of sums differs.
TOLERANCE = 1e-4

PATTERNS = ('none', 'released', 'kernels', 'channels', 'weights', 'outer')


@dataclass(frozen=True)
class Case:
    """One network with a pattern of zeros.

    Attributes:
        network: ``'SW-T'`` or ``'SLaK-T'``.
        pattern: Which weights of the large kernels are zero, at random: ``'weights'`` single ones, ``'kernels'`` whole
            small kernels of SW, ``'released'`` as many per layer as in the authors' run, ``'channels'`` all kernels of
            a channel, ``'outer'`` the ends of all strips of SLaK, ``'none'`` none.
        sparsity: Share of them.
        arrangements: Of SW, the arrangements that are added.
        shared: Of SW, whether both paths have one mask.
        form: Fused form.
    """

    network: str
    pattern: str
    sparsity: float = 0.0
    arrangements: int = 4
    shared: bool = True
    form: str = 'strips'

    def __str__(self) -> str:
        parts = [self.network, self.form, self.pattern]
        if self.network == 'SW-T':
            parts.insert(1, f'{self.arrangements} arrangements')
            parts[-1] += ', one mask' if self.shared else ', a mask per path'
        return ', '.join(parts) + ('' if self.pattern in ('none', 'released') else f' {self.sparsity:g}')


CASES = (
    Case('SW-T', 'released', 0.3, shared=False),
    Case('SW-T', 'released', 0.3),
    Case('SW-T', 'released', 0.3, arrangements=1),
    Case('SW-T', 'kernels', 0.5, arrangements=1),
    Case('SW-T', 'kernels', 0.7),
    Case('SW-T', 'kernels', 0.7, arrangements=1),
    Case('SW-T', 'kernels', 0.9),
    Case('SW-T', 'kernels', 0.9, arrangements=1),
    Case('SW-T', 'channels', 0.5),
    Case('SLaK-T', 'weights', 0.4),
    Case('SLaK-T', 'channels', 0.4),
    Case('SLaK-T', 'channels', 0.7),
    Case('SLaK-T', 'outer', 0.5),
    Case('SLaK-T', 'none', form='dense'),
    Case('SLaK-T', 'channels', 0.4, form='dense'),
)


def build(case: Case, seed: int = 0, **settings) -> nn.Module:
    """The network of a case, fused, with random weights of which those of the pattern are zero.

    Args:
        case: The case.
        seed: Of weights and masks.
        **settings: Of the network, such as ``depths``.

    Returns:
        The network, of layer scale 1: with the usual 1e-6 no difference would reach the output.
    """
    torch.manual_seed(seed)
    settings.setdefault('layer_scale_init_value', 1.0)
    if case.network == 'SW-T':
        network = ShiftWiseNet(num_arrangements=case.arrangements, **settings)
    else:
        network = SLaK(**settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for stage, layers in enumerate(network.stages):
            mixers = [module for module in layers.modules() if isinstance(module, BaseMixer)]
            for index, mixer in enumerate(mixers):
                _mask(mixer, case, _sparsity(case, stage, index), generator)
    return switch_to_deploy(network, case.form)


def _sparsity(case: Case, stage: int, index: int) -> float:
    if case.pattern != 'released':
        return case.sparsity
    return RELEASED_ZEROS[stage][index] / RELEASED_KERNELS[stage]


def _mask(mixer: BaseMixer, case: Case, sparsity: float, generator: torch.Generator) -> None:
    """Zero the weights of a mixer in place."""

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator) >= sparsity

    if case.pattern == 'none':
        return
    if isinstance(mixer, ShiftWiseMixer):
        count, channels = len(mixer.paths[0]), mixer.conv_channels
        masks = []
        for _ in mixer.paths:
            keep = drawn(channels).repeat_interleave(mixer.num_kernels) if case.pattern == 'channels' else drawn(count)
            masks.append(keep)
        for path, mask in zip(mixer.paths, masks, strict=True):
            path.mul_((masks[0] if case.shared else mask).view(-1, 1, 1, 1))
        return
    if not isinstance(mixer, StripeMixer):
        raise TypeError(f'expected a mixer of SW or SLaK, got {type(mixer).__name__}')
    weights = mixer.vertical_weight, mixer.horizontal_weight, mixer.small_weight
    if case.pattern == 'channels':
        keep = drawn(mixer.channels).view(-1, 1, 1, 1)
        for weight in weights:
            weight.mul_(keep)
    elif case.pattern == 'weights':
        for weight in weights:
            weight.mul_(drawn(*weight.shape))
    else:
        for axis, weight in zip((2, 3), weights, strict=False):
            edge = weight.shape[axis]
            cut = round(edge * sparsity / 2)
            weight.narrow(axis, 0, cut).zero_()
            weight.narrow(axis, edge - cut, cut).zero_()


def measure(
    case: Case,
    image_size: tuple[int, int],
    batch_size: int,
    clock: Clock,
    seconds: float,
    depths: list[int] | None = None,
) -> tuple[dict, ShrinkReport]:
    """Row of a case, as the result file has it, and what was cut.

    Args:
        case: The case.
        image_size: (H, W) in pixels.
        batch_size: Images.
        clock: Clock of the CPU.
        seconds: Time for the runs of each form.
        depths: Blocks per stage instead of the network's own.
    """
    before = build(case, **({} if depths is None else {'depths': depths}))
    after = copy.deepcopy(before)
    report = shrink_kernels(after, image_size, batch_size)
    images = torch.randn(batch_size, 3, *image_size, generator=torch.Generator().manual_seed(1))
    touch_memory(_LARGEST_KEPT)
    with torch.no_grad():
        error = _difference(before(images), after(images))
        timings = _time_in_turns([before, after], images, clock, seconds)
    names = ('before', 'after')
    return {
        'case': str(case),
        'network': case.network,
        'form': case.form,
        'pattern': case.pattern,
        'sparsity': case.sparsity,
        'arrangements': case.arrangements if case.network == 'SW-T' else None,
        'shared': case.shared if case.network == 'SW-T' else None,
        'layers': len(report.layers),
        'shrunk': len(report.shrunk),
        'zero_channels': sum(layer.zero_channels for layer in report.layers),
        'nonzero': sum(layer.nonzero for layer in report.layers),
        'weights': dict(zip(names, report.taps, strict=True)),
        'predicted_ms': dict(zip(names, report.predicted_ms, strict=True)),
        'mixers': {name: timing[0].record() for name, timing in zip(names, timings, strict=True)},
        'network_forward': {name: timing[1].record() for name, timing in zip(names, timings, strict=True)},
        'error': error,
        'tolerance': TOLERANCE,
    }, report


def _difference(before: tuple[torch.Tensor, ...], after: tuple[torch.Tensor, ...]) -> float:
    """Largest difference, relative to the largest output of its stage."""
    return max(((one - other).abs().max() / one.abs().max()).item() for one, other in zip(before, after, strict=True))


def _time_in_turns(
    networks: list[nn.Module], images: torch.Tensor, clock: Clock, seconds: float
) -> list[tuple[Timing, Timing]]:
    """Per network, the time of its mixers within a forward pass and that of the pass."""
    probes = [_MixerTimes(network) for network in networks]
    timings = [(Timing(), Timing()) for _ in networks]
    first = statistics.median(clock.time(lambda: networks[0](images))() for _ in range(2))
    with no_garbage_collection():
        for _ in range(repeats_for(first, seconds)):
            for network, probe, (mixers, whole) in zip(networks, probes, timings, strict=True):
                probe.total = 0.0
                whole.seconds.append(clock.time(lambda network=network: network(images))())
                mixers.seconds.append(probe.total)
    return timings


class _MixerTimes:
    """Seconds that the mixers of a network take within its forward pass, on a CPU."""

    def __init__(self, network: nn.Module) -> None:
        self.total = 0.0
        self._start = 0.0
        for module in network.modules():
            if isinstance(module, (BaseMixer, CompactConv2d)):
                module.register_forward_pre_hook(self._begin)
                module.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        self._start = time.perf_counter()

    def _end(self, *_: object) -> None:
        self.total += time.perf_counter() - self._start

"""Cut what sparse training left at zero out of fused kernels, exactly."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mmlk.models.mixers import BaseMixer
from mmlk.models.reparam import pad_kernel
from mmlk.models.shrink.cost import Site, convolution_ms, moving_ms
from mmlk.models.shrink.plan import MAX_GROUPS, Plan, make_plan
from mmlk.models.shrink.report import ShrinkReport, ShrunkLayer
from mmlk.nn.compact_conv import CompactConv2d, KernelGroup

__all__ = ['ShrinkReport', 'ShrunkLayer', 'load_shrunk', 'shrink_kernels']

#: A plan has to be predicted to take less than this share of the time: measured, those at 0.82 to 0.9 gained 6 % or
#: lost as much, and those below 0.8 gained.
WORTH = 0.8

_WARM_UP, _RUNS = 2, 15


@torch.no_grad()
def shrink_kernels(
    model: nn.Module,
    image_size: tuple[int, int] = (224, 224),
    batch_size: int = 1,
    *,
    inputs: Tensor | None = None,
    max_groups: int = MAX_GROUPS,
    measure: bool = False,
) -> ShrinkReport:
    """Replace fused mixers, in place, by the cheapest convolutions that hold all their non-zero taps.

    Channels whose kernels are zero are not convolved, kernels are cropped to their taps, channels may be grouped by the
    reach of their kernels, and a cross becomes two strips. The output is the same up to rounding: only products with
    zero are left out. A layer stays as it is unless this is predicted to be faster. A second call changes nothing that
    was shrunk.

    Args:
        model: Network with mixers, after :func:`~mmlk.models.switch_to_deploy`. One with a ``backbone`` is only run as
            far as that.
        image_size: (H, W) in pixels for which to choose; the result is right for every size.
        batch_size: Images for which to choose.
        inputs: What to call the network with instead of images; its values do not matter.
        max_groups: Groups of channels per layer at most, beside that of the zero kernels.
        measure: Time each candidate against what it would replace, on random maps, and take the faster.

    Returns:
        What was cut and what was left, and why.

    Raises:
        ValueError: A mixer is not fused, or there is none.
    """
    mixers = {name: module for name, module in model.named_modules() if isinstance(module, BaseMixer)}
    before = [(name, module) for name, module in model.named_modules() if isinstance(module, CompactConv2d)]
    if not mixers and not before:
        raise ValueError(f'model must contain mixers of mmlk, found none in {type(model).__name__}')
    _check_fused(mixers)
    sites = _find_sites(model, list(mixers), image_size, batch_size, inputs) if mixers else {}
    layers = [_report_shrunk(name, conv) for name, conv in before]
    for name, site in sites.items():
        layer, compact = _shrink_mixer(name, mixers[name], site, max_groups, measure)
        layers.append(layer)
        if not layer.kept:
            _replace(model, name, compact)
    return ShrinkReport(tuple(layers))


def load_shrunk(model: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load the state dict of a shrunk network into a fused one that was not shrunk, or not the same way.

    Args:
        model: The same network in its fused form, as built with ``deploy=True``.
        state_dict: State dict of the shrunk network.
        strict: As of ``nn.Module.load_state_dict``.

    Raises:
        ValueError: A mixer is not fused.
        RuntimeError: The state dict does not fit.
    """
    mixers = {name: module for name, module in model.named_modules() if isinstance(module, (BaseMixer, CompactConv2d))}
    for name, mixer in mixers.items():
        prefix = f'{name}.'
        state = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        if not any(key.startswith('parts.') for key in state):
            continue
        _check_fused({name: mixer})
        like = next(mixer.parameters())
        compact = CompactConv2d.from_state(state, mixer.backend).to(like.device, like.dtype)
        _replace(model, name, compact.train(mixer.training))
    model.load_state_dict(state_dict, strict=strict)


def _check_fused(mixers: Mapping[str, nn.Module]) -> None:
    for name, mixer in mixers.items():
        if isinstance(mixer, BaseMixer) and not mixer.deployed:
            raise ValueError(f'model must be fused first, {name} is not: call mmlk.models.switch_to_deploy')
        if not name:
            raise ValueError(f'model must contain its mixers, got a lone {type(mixer).__name__}: put it into a module')


def _replace(model: nn.Module, name: str, compact: CompactConv2d) -> None:
    parent, _, own = name.rpartition('.')
    setattr(model.get_submodule(parent), own, compact)


def _find_sites(
    model: nn.Module, names: list[str], image_size: tuple[int, int], batch_size: int, inputs: Tensor | None
) -> dict[str, Site]:
    """Where the convolutions of the mixers run, from a pass without storage, in the order of the pass."""
    parameter = next(model.parameters())
    device = 'cuda' if parameter.device.type == 'cuda' else 'cpu'
    network = copy.deepcopy(model).to('meta').eval()
    sites: dict[str, Site] = {}
    for name in names:

        def note(conv: nn.Module, arguments: tuple, name: str = name) -> None:
            sites[name] = Site.of(arguments[0], device)

        network.get_submodule(name).reparam_convs[0].register_forward_pre_hook(note)
    if inputs is None:
        inputs = torch.empty(batch_size, 3, *image_size)
    getattr(network, 'backbone', network)(inputs.to('meta', parameter.dtype))
    return sites


def _shrink_mixer(
    name: str, mixer: BaseMixer, site: Site, max_groups: int, measure: bool
) -> tuple[ShrunkLayer, CompactConv2d]:
    convs = mixer.reparam_convs
    sizes = tuple(tuple(conv.kernel_size) for conv in convs)
    edges = tuple(max(size[axis] for size in sizes) for axis in (0, 1))
    kernel = sum(pad_kernel(conv.weight.double(), edges) for conv in convs)
    bias = sum(conv.bias.double() for conv in convs if conv.bias is not None)
    channels = len(kernel)
    support = (kernel[:, 0] != 0).cpu().numpy()
    # A mixer that lets channels pass by gathers and puts back the others.
    moved = mixer.conv_channels < mixer.channels
    now = convolution_ms(site, channels, sizes) + (moving_ms(site, channels) if moved else 0.0)
    taps = sum(rows * columns for rows, columns in sizes)
    plan = make_plan(support, site, taps, max_groups, moved)
    compact = _build(mixer, plan, kernel, bias)
    times = measured = _measure(mixer, compact, site) if measure else None
    if times is None:
        times = now, plan.predicted_ms
    kept = ''
    if times[1] >= WORTH * times[0]:
        what = 'measured' if measure else 'predicted'
        kept = f'cutting is {what} to take {times[1]:.3g} ms instead of {times[0]:.3g}'
        if [group.kernel_sizes for group in plan.groups] == [sizes]:
            kept = 'every row, column and channel holds weights'
    unchanged = (KernelGroup(channels, sizes),)
    before, after = (sum(conv.weight.numel() for conv in each) for each in (convs, _convs_of(compact)))
    return ShrunkLayer(
        name=name,
        groups=unchanged if kept else compact.groups,
        taps=(before, before if kept else after),
        nonzero=int(support.sum()),
        zero_channels=int((~support.any((1, 2))).sum()),
        predicted_ms=(now, plan.predicted_ms),
        measured_ms=measured,
        kept=kept,
    ), compact


def _report_shrunk(name: str, compact: CompactConv2d) -> ShrunkLayer:
    convs = _convs_of(compact)
    taps = sum(conv.weight.numel() for conv in convs)
    nonzero = sum(int((conv.weight != 0).sum()) for conv in convs)
    constant = sum(group.channels for group in compact.groups if group.kernel_sizes == ())
    return ShrunkLayer(name, compact.groups, (taps, taps), nonzero, constant, (0.0, 0.0), kept='it was shrunk before')


def _build(mixer: BaseMixer, plan: Plan, kernel: Tensor, bias: Tensor) -> CompactConv2d:
    """A mixer as a plan says, with its weights."""
    like = mixer.reparam_convs[0].weight
    # Where the channels come from and go to, by what the mixer itself does to numbered ones.
    numbers = torch.arange(mixer.channels, device=like.device).view(1, -1, 1, 1)
    convolved, passed = mixer.split(numbers)
    sources, by = convolved.flatten(), None if passed is None else passed.flatten()
    groups = [KernelGroup(len(group.channels), group.kernel_sizes) for group in plan.groups]
    routes = [torch.from_numpy(group.channels).to(like.device) for group in plan.groups]
    if by is not None:
        groups.append(KernelGroup(len(by), None))
    compact = CompactConv2d(groups, device=like.device, dtype=like.dtype, backend=mixer.backend)
    for part, route in zip(compact.parts, routes, strict=False):
        _fill(part, kernel[route], bias[route])
    if len(groups) > 1:
        taken = [*(sources[route] for route in routes), *([] if by is None else [by])]
        for part, source in zip(compact.parts, taken, strict=True):
            part.sources.copy_(source)
        # The channels come out as the groups have them, and have to come out as the mixer has them.
        compact.order.copy_(torch.argsort(torch.cat(taken))[mixer.concat(convolved, passed).flatten()])
    return compact.train(mixer.training)


def _fill(part: nn.Module, kernel: Tensor, bias: Tensor) -> None:
    """Share out kernels (c, 1, R, S) over the convolutions of a group."""
    holder = part.convs[0] if len(part.convs) else part
    holder.bias.copy_(bias)
    for conv in part.convs:
        rows, columns = ((edge - size) // 2 for edge, size in zip(kernel.shape[2:], conv.kernel_size, strict=True))
        taken = kernel[:, :, rows : kernel.shape[2] - rows, columns : kernel.shape[3] - columns]
        conv.weight.copy_(taken)
        # The strips of a cross share the centre, which the first one has.
        kernel = kernel - pad_kernel(taken, tuple(kernel.shape[2:]))


def _convs_of(compact: CompactConv2d) -> list[nn.Module]:
    return [conv for part in compact.parts for conv in part.convs]


def _measure(mixer: BaseMixer, compact: CompactConv2d, site: Site) -> tuple[float, float]:
    """Median milliseconds of both on random maps, in turns."""
    like = mixer.reparam_convs[0].weight
    layout = torch.channels_last if site.channels_last else torch.contiguous_format
    x = torch.randn(site.n, mixer.channels, site.h, site.w, device=like.device)
    x = x.to(site.dtype).contiguous(memory_format=layout)
    times: list[list[float]] = [[], []]
    for turn in range(_WARM_UP + _RUNS):
        for module, seconds in zip((mixer, compact), times, strict=True):
            elapsed = _seconds(lambda module=module: module(x), like.device)
            if turn >= _WARM_UP:
                seconds.append(elapsed)
    before, after = (1e3 * statistics.median(seconds) for seconds in times)
    return before, after


def _seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start

"""Measure the op on a shape: check it, time it among its baselines, relate it to the roofline."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmlk.benchmarks.accuracy import Expectation
from mmlk.benchmarks.contenders import PRECONVERTED, Case, Contender, make_case, make_contenders
from mmlk.benchmarks.roofline import PASSES, Ceilings, bound
from mmlk.benchmarks.shapes import Shape
from mmlk.benchmarks.timing import SLOW_SECONDS, Clock, Timing, interleave
from mmlk.ops import explain
from mmlk.ops.dispatch import Choice
from mmlk.ops.peripheral_conv2d import explain as explain_peripheral

#: Passes of the dispatcher that a pass of a row is made of.
DISPATCHED = {
    'forward': ('forward',),
    'grad_input': ('grad_input',),
    'grad_weight': ('grad_weight',),
    'backward': ('grad_input', 'grad_weight'),
    'forward_backward': ('forward', 'grad_input', 'grad_weight'),
}

#: Never slower than the best baseline by more than this factor and, for the call itself, this many milliseconds.
LIMIT_FACTOR = 1.1
LIMIT_FORWARD_MS = 0.3
LIMIT_BACKWARD_MS = 0.5

#: Where a run takes longer, converting the memory format costs less than 1 % of it.
_CONVERSION_COUNTS_SECONDS = 0.2


@dataclass(frozen=True)
class Settings:
    """What all rows of a run have in common.

    Attributes:
        backend: Backend of the shape's op that is forced; ``None`` lets the dispatcher choose.
        seconds: Time per implementation and pass.
        passes: Passes to measure.
    """

    backend: str | None = None
    seconds: float = 0.4
    passes: tuple[str, ...] = PASSES


def measure(
    shape: Shape, dtype: torch.dtype, layout: str, clock: Clock, ceilings: Ceilings, settings: Settings
) -> Iterator[dict]:
    """Rows of a shape, one per pass, as the result file has them.

    A row whose result is wrong has ``wrong: True`` and no times. A row that a forced backend cannot run has
    ``skipped`` with the reason.

    Args:
        shape: The convolution; with a sharing grid the op is ``peripheral_conv2d``.
        dtype: Of input and kernels.
        layout: ``'contiguous'`` or ``'channels_last'``.
        clock: Clock of the device to run on.
        ceilings: Rates of the machine for ``dtype``.
        settings: What all rows share.
    """
    generator = torch.Generator(clock.device).manual_seed(0)
    case = make_case(shape.size, dtype, layout, clock.device, generator, shape.grid)
    head = {
        'name': shape.name,
        'shape': dict(zip('nchwrs', shape.size, strict=True)),
        'dtype': str(dtype).removeprefix('torch.'),
        'layout': layout,
    }
    if shape.grid:
        head['grid'] = list(shape.grid)
    try:
        choices = _explain(case, settings.backend)
    except RuntimeError as error:
        yield from ({**head, 'pass': name, 'skipped': str(error)} for name in settings.passes)
        return
    expectation = Expectation(case.x, case.weight, case.grad, case.grid)
    ours, baselines = make_contenders(case, settings.backend, clock.synchronize)
    itemsize = case.x.element_size()
    for name in settings.passes:
        backends = {
            part: {'name': choices[part].backend.name, 'detail': str(getattr(choices[part], 'detail', '') or '')}
            for part in DISPATCHED[name]
        }
        row = {**head, 'pass': name, 'backend': backends}
        try:
            seconds, errors = _first_run(ours, name, expectation)
        except torch.OutOfMemoryError:
            yield {**head, 'pass': name, 'skipped': 'not run: out of memory'}
            continue
        row |= _worst(errors, expectation)
        if any(not error <= expectation.tolerances[result] for result, error in errors.items()):
            yield row | {'wrong': True}
            continue
        limits = bound(shape.size, itemsize, name, ceilings, shape.grid)
        own, others = _time(ours, baselines, name, seconds, expectation, clock, settings.seconds)
        if not _times(others):
            yield {**head, 'pass': name, 'skipped': 'no baseline could run: out of memory'}
            continue
        yield (
            row
            | _relate(own, others, name)
            | {
                'roofline': vars(limits),
                'distance_to_roofline': own.median_ms / limits.bound_ms,
            }
        )


def _explain(case: Case, backend: str | None) -> dict[str, Choice]:
    """The choice of every pass; where the kernel is expanded, with what is chosen for it then."""
    if not case.grid:
        return explain(case.x, case.weight, backend=backend)
    choices = explain_peripheral(case.x, case.weight, case.grid, backend=backend)
    for name, inner in explain(case.x, case.kernel(case.weight)).items():
        if choices[name].backend.name == 'dense':
            choices[name] = replace(choices[name], detail=f'{inner.backend.name} {inner.detail}'.strip())
    return choices


def _first_run(contender: Contender, pass_name: str, expectation: Expectation) -> tuple[float, dict[str, float]]:
    """Seconds (with warm-up in them) and errors of the first call of a pass."""
    contender.prepare(pass_name)
    contender.synchronize()
    start = time.perf_counter()
    results = contender.run(pass_name)
    contender.synchronize()
    seconds = time.perf_counter() - start
    return seconds, _errors(results, expectation)


def _errors(results: dict[str, Tensor], expectation: Expectation) -> dict[str, float]:
    return {name: expectation.error(name, result) for name, result in results.items()}


def _worst(errors: dict[str, float], expectation: Expectation) -> dict[str, float]:
    """Error and tolerance of the result that is nearest to its tolerance, or furthest beyond."""
    name = max(errors, key=lambda name: errors[name] / expectation.tolerances[name])
    return {'error': errors[name], 'tolerance': expectation.tolerances[name]}


def _time(
    ours: Contender,
    baselines: dict[str, Contender | str],
    pass_name: str,
    own_seconds: float,
    expectation: Expectation,
    clock: Clock,
    budget: float,
) -> tuple[Timing, dict[str, dict]]:
    """Timing of ours; of each baseline its record, or the reason why it has none."""
    records: dict[str, dict] = {}
    estimates, runs = {}, {}
    for name, baseline in baselines.items():
        if isinstance(baseline, str):
            records[name] = {'skipped': baseline}
            continue
        if name == PRECONVERTED and records['channels_last'].get('first_s', 0) > _CONVERSION_COUNTS_SECONDS:
            records[name] = {'skipped': 'not run: the conversion is less than 1 % of a long run'}
            continue
        try:
            timing, seconds, errors = _first_or_only(baseline, pass_name, expectation)
        except torch.OutOfMemoryError:
            records[name] = {'skipped': 'not run: out of memory'}
            continue
        records[name] = {'first_s': seconds, **_worst(errors, expectation)}
        if math.isinf(records[name]['error']):
            records[name]['error'] = None
        if timing is not None:
            records[name] |= timing.record()
        else:
            estimates[name] = seconds
            runs[name] = _runner(baseline, pass_name)
    # The first call of anything is slow; the second tells how long one takes.
    if own_seconds < 1:
        own_seconds = clock.time(_runner(ours, pass_name))()
    estimates = {name: clock.time(runs[name])() if seconds < 1 else seconds for name, seconds in estimates.items()}
    own, timings = interleave(clock, _runner(ours, pass_name), runs, estimates | {'ours': own_seconds}, budget)
    for name, timing in timings.items():
        records[name] |= timing.record()
    for record in records.values():
        record.pop('first_s', None)
    return own, records


def _runner(contender: Contender, pass_name: str) -> Callable[[], object]:
    return lambda: contender.run(pass_name)


def _first_or_only(
    baseline: Contender, pass_name: str, expectation: Expectation
) -> tuple[Timing | None, float, dict[str, float]]:
    """The first run of a baseline: its timing if it is the only one because it is slow, its seconds, its errors.

    The forward of the graph that the backward passes need is timed, so a slow baseline is not run once more for the
    passes that contain nothing else.
    """
    baseline.prepare('backward')
    forward = baseline.forward_seconds
    output = {'y': baseline.output()}
    if pass_name == 'forward' and forward > SLOW_SECONDS:
        return Timing([forward], 'first run'), forward, _errors(output, expectation)
    if pass_name == 'forward_backward' and (forward > SLOW_SECONDS or baseline.slow_backward is not None):
        backward, errors = baseline.slow_backward or _first_run(baseline, 'backward', expectation)
        seconds = forward + backward
        return Timing([seconds], 'forward, then backward, first runs'), seconds, errors | _errors(output, expectation)
    seconds, errors = _first_run(baseline, pass_name, expectation)
    if seconds <= SLOW_SECONDS:
        return None, seconds, errors
    if pass_name == 'backward':
        baseline.slow_backward = seconds, errors
    return Timing([seconds], 'first run'), seconds, errors


def _times(others: dict[str, dict]) -> dict[str, float]:
    """Medians of the baselines that ran on the tensors of the op."""
    ran = {name: record['median_ms'] for name, record in others.items() if 'median_ms' in record}
    return {name: median for name, median in ran.items() if name != PRECONVERTED}


def _relate(own: Timing, others: dict[str, dict], pass_name: str) -> dict:
    """Ratios to the baselines, and whether the rule against slowness holds."""
    times = _times(others)
    best = min(times, key=times.get)
    allowance = LIMIT_FORWARD_MS if pass_name == 'forward' else LIMIT_BACKWARD_MS
    limit = LIMIT_FACTOR * times[best] + allowance
    ratio = times['contiguous'] / own.median_ms if 'contiguous' in times else None
    strict = LIMIT_FACTOR * min(times[best], others[PRECONVERTED].get('median_ms', times[best])) + allowance
    return {
        'ours': own.record(),
        'baselines': others,
        'best': best,
        'ratio_contiguous': ratio,
        'ratio_best': times[best] / own.median_ms,
        'limit_ms': limit,
        'within_limit': own.median_ms <= limit,
        'within_limit_preconverted': own.median_ms <= strict,
    }

"""Do two forms of a network give the same outputs? Compared part by part, in float64 and in float32."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmlk.errors import UsageError

#: ||a - b|| / ||b|| allowed between the train form b and the fused form a. In float64 only the order of additions
#: differs, so a mistake shows even where a small layer scale hides it from float32.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
#: Allowed between a fused form and one that was shrunk after its weights were rounded to float32. Strips that share
#: their centre are added and parted anew, which rounds the centre once more.
SHRUNK_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}

#: Parts of a model that are no heads.
_NO_HEADS = ('backbone', 'neck', 'data_preprocessor', 'roi_head')
#: Regions that heads of a two-stage detector see, as fractions (left, top, right, bottom) of the image: from large to
#: small, so that every level of the pyramid gives some.
_REGIONS = ((0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.6, 0.9), (0.5, 0.1, 0.8, 0.4), (0.3, 0.6, 0.45, 0.7))


@dataclass
class Difference:
    """The largest differences of one part of a model, and the input that gave the relative one.

    Attributes:
        absolute: max |a - b|.
        relative: max over outputs and inputs of ||a - b|| / ||b||.
        input: Name of the input.
    """

    absolute: float = 0.0
    relative: float = 0.0
    input: str = ''


@dataclass
class Comparison:
    """What :func:`compare_forms` found.

    Attributes:
        parts: Per dtype, name of a part -> difference, in the order in which the parts run.
        limits: Per dtype, the relative difference that is allowed.
        inputs: Names of the inputs.
        skipped: Heads that cannot be called with feature maps alone and were not compared.
    """

    parts: dict[torch.dtype, dict[str, Difference]] = field(default_factory=dict)
    limits: Mapping[torch.dtype, float] = field(default_factory=lambda: TOLERANCE)
    inputs: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def worst(self, dtype: torch.dtype) -> tuple[str, Difference]:
        """Name and difference of the part that differs most."""
        return max(self.parts[dtype].items(), key=lambda item: item[1].relative)

    @property
    def equal(self) -> bool:
        """Whether every part is within the limit of every dtype."""
        return all(self.worst(dtype)[1].relative <= self.limits[dtype] for dtype in self.parts)


def compare_forms(
    reference: nn.Module,
    other: nn.Module,
    inputs: Sequence[tuple[str, Callable[[], Tensor]]],
    limits: Mapping[torch.dtype, float] = TOLERANCE,
    advance: Callable[[], object] = lambda: None,
) -> Comparison:
    """Run two models on the same images and compare the outputs of every stage, neck and head.

    Args:
        reference: Model with its weights, such as the train form. Both are left in evaluation mode and in the last
            dtype, so parameters that were float32 come back unchanged.
        other: Model to compare, such as the fused form, in the widest precision it was made in.
        inputs: Name and a function that makes the images (N, 3, H, W), float32.
        limits: Per precision, the widest first, the relative difference that is allowed.
        advance: Called after every input of every dtype.

    Raises:
        UsageError: The reference cannot run on an input, or gives NaN or infinity.
    """
    comparison = Comparison(limits=limits, inputs=[name for name, _ in inputs])
    for dtype in limits:
        reference.to(dtype).eval()
        other.to(dtype).eval()
        found = comparison.parts[dtype] = {}
        for name, make in inputs:
            images = make().to(dtype)
            expected, comparison.skipped = _reference_outputs(reference, images, name)
            actual, _ = part_outputs(other, images)
            for part, tensors in expected.items():
                _update(found.setdefault(part, Difference()), actual[part], tensors, name)
            advance()
    return comparison


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """||actual - expected|| / ||expected|| in float64; 0 for equal tensors, infinity where only ``expected`` is 0.

    NaN in either counts as infinity, so that it exceeds any tolerance.
    """
    difference = (actual.double() - expected.double()).norm()
    if difference == 0:
        return 0.0
    relative = (difference / expected.double().norm()).item()
    return relative if relative == relative else float('inf')


@torch.no_grad()
def part_outputs(model: nn.Module, images: Tensor) -> tuple[dict[str, list[Tensor]], list[str]]:
    """Outputs of every stage, of backbone, neck and heads.

    Heads of a two-stage detector see fixed regions of the image: proposals depend on the order of scores, which
    rounding may swap.

    Args:
        model: Classifier, segmentor or detector of OpenMMLab, or a network that is called with images.
        images: Images (N, 3, H, W) as the data preprocessor gives them.

    Returns:
        Name of the part -> its outputs, and the names of heads that need more than feature maps and were left out.
    """
    outputs: dict[str, list[Tensor]] = {}
    with _recorded(model, outputs):
        if not hasattr(model, 'extract_feat'):
            outputs['output'] = _tensors(model(images))
            return outputs, []
        features = model.extract_feat(images)
    if 'backbone' not in outputs or getattr(model, 'neck', None) is not None:
        outputs['neck'] = _tensors(features)
    skipped = []
    for name, head in model.named_children():
        if name not in _NO_HEADS and next(head.parameters(), None) is not None:
            _run_heads(name, head, features, outputs, skipped)
    if getattr(model, 'roi_head', None) is not None:
        _run_roi_heads(model.roi_head, features, images, outputs, skipped)
    return outputs, skipped


def _reference_outputs(model: nn.Module, images: Tensor, name: str) -> tuple[dict[str, list[Tensor]], list[str]]:
    try:
        outputs, skipped = part_outputs(model, images)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        text = str(error).strip().partition('\n')[0] or type(error).__name__
        raise UsageError(
            f'the train form cannot run on the input {name} ({text}); give --sizes that the network takes'
        ) from error
    for part, tensors in outputs.items():
        if not all(torch.isfinite(tensor).all() for tensor in tensors):
            raise UsageError(
                f'the train form gives NaN or infinity in {part} on the input {name}; such a model cannot be compared, '
                'take a sound checkpoint'
            )
    return outputs, skipped


def _update(found: Difference, actual: list[Tensor], expected: list[Tensor], name: str) -> None:
    for a, b in zip(actual, expected, strict=True):
        relative = relative_difference(a, b)
        if relative >= found.relative:
            found.relative, found.input = relative, name
        largest = (a.double() - b.double()).abs().max().item() if b.numel() else 0.0
        found.absolute = max(found.absolute, largest if largest == largest else float('inf'))


@contextmanager
def _recorded(model: nn.Module, outputs: dict[str, list[Tensor]]) -> Iterator[None]:
    """Note what the backbone and its stages return."""

    def recorder(name: str) -> Callable:
        def record(module: nn.Module, inputs: tuple, output: object) -> None:
            outputs[name] = _tensors(output)

        return record

    backbone = getattr(model, 'backbone', model)
    handles = []
    stages = getattr(backbone, 'stages', None)
    if isinstance(stages, (nn.ModuleList, nn.Sequential)):
        handles += [stage.register_forward_hook(recorder(f'stage {i}')) for i, stage in enumerate(stages)]
    if backbone is not model and isinstance(backbone, nn.Module):
        handles.append(backbone.register_forward_hook(recorder('backbone')))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run_heads(name: str, head: nn.Module, features: object, outputs: dict, skipped: list[str]) -> None:
    """Call a head, or each of a list, with the feature maps; a later one of a cascade gets the previous output too."""
    heads = list(head) if isinstance(head, nn.ModuleList) else [head]
    previous = None
    for index, each in enumerate(heads):
        label = name if len(heads) == 1 else f'{name}.{index}'
        needed = _count_required(each)
        if needed == 1:
            previous = each(features)
        elif needed == 2 and previous is not None:
            previous = each(features, previous)
        else:
            skipped.append(label)
            continue
        outputs[label] = _tensors(previous)


def _run_roi_heads(roi_head: nn.Module, features: Sequence[Tensor], images: Tensor, outputs: dict, skipped: list[str]):
    """Call box and mask heads with what their extractors pool from fixed regions."""
    height, width = images.shape[2:]
    scale = images.new_tensor([width, height, width, height])
    boxes = images.new_tensor(_REGIONS) * scale
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
    for kind in ('bbox', 'mask'):
        heads = _listed(getattr(roi_head, f'{kind}_head', None))
        extractors = _listed(getattr(roi_head, f'{kind}_roi_extractor', None))
        for index, head in enumerate(heads):
            label = f'{kind}_head' if len(heads) == 1 else f'{kind}_head.{index}'
            if _count_required(head) != 1 or not extractors:
                skipped.append(label)
                continue
            extractor = extractors[min(index, len(extractors) - 1)]
            pooled = extractor(features[: extractor.num_inputs], rois)
            if getattr(roi_head, 'shared_head', None) is not None:
                pooled = roi_head.shared_head(pooled)
            outputs[label] = _tensors(head(pooled))


def _count_required(module: nn.Module) -> int:
    """How many arguments ``forward`` needs."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def _listed(modules: nn.Module | nn.ModuleList | None) -> list[nn.Module]:
    if modules is None:
        return []
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


def _tensors(output: object) -> list[Tensor]:
    """All tensors of a nested output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [tensor for each in output for tensor in _tensors(each)]
    return []

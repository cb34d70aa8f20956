"""Parameters and multiply-accumulates, by the counting rules that reproduce the papers' tables.

All counts are of the merged network: convolution and linear layers only, one multiply-accumulate per weight and output
position. They run on the meta device, so no memory is needed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mmlk.models.reparam import switch_to_deploy


@dataclass(frozen=True)
class Complexity:
    """Size of a network.

    Attributes:
        params: Number of parameters.
        macs: Number of multiply-accumulates of one image; what the papers of this field call FLOPs.
    """

    params: float
    macs: float

    def __add__(self, other: Complexity) -> Complexity:
        return Complexity(self.params + other.params, self.macs + other.macs)


def count_params(model: nn.Module, exclude: str | None = None) -> int:
    """Number of parameters, leaving out those whose name contains ``exclude``."""
    return sum(p.numel() for name, p in model.named_parameters() if exclude is None or exclude not in name)


def count_macs(model: nn.Module, run: Callable[[nn.Module], object]) -> int:
    """Multiply-accumulates of the convolution and linear layers during ``run(model)``.

    Args:
        model: Network, already merged where it has train-time branches.
        run: Calls the model once.
    """
    total = 0

    def count_conv(conv: nn.Conv2d, inputs, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * conv.weight[0].numel()

    def count_transposed(conv: nn.ConvTranspose2d, inputs, output: torch.Tensor) -> None:
        nonlocal total
        total += inputs[0].numel() * conv.weight[0].numel()

    def count_linear(linear: nn.Linear, inputs, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * linear.in_features

    handles = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(count_conv))
        elif isinstance(module, nn.ConvTranspose2d):
            handles.append(module.register_forward_hook(count_transposed))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(count_linear))
    try:
        with torch.no_grad():
            run(model)
    finally:
        for handle in handles:
            handle.remove()
    return total


def merged_on_meta(model: nn.Module) -> nn.Module:
    """A fused copy of the model without storage."""
    return switch_to_deploy(copy.deepcopy(model).to('meta'))


def backbone_complexity(
    backbone: nn.Module,
    input_size: tuple[int, int],
    density: float = 1.0,
    exclude: str | None = 'position_embedding',
    merged_params: bool = False,
) -> Complexity:
    """Size of a backbone or a classifier network.

    Args:
        backbone: Network in train form; called with an image (1, 3, H, W).
        input_size: (H, W) in pixels.
        density: Share of the weights that is not zero; the papers with dynamic sparsity count those only (PeLK, SLaK:
            0.6).
        exclude: Parameters whose name contains this are not counted.
        merged_params: Count the parameters of the merged form, as RepLKNet and UniRepLKNet do.

    Returns:
        Parameters of the train form, as most papers count them, and multiply-accumulates of the merged form, both times
        ``density``.
    """
    merged = merged_on_meta(backbone)
    image = torch.empty(1, 3, *input_size, device='meta')
    macs = count_macs(merged, lambda net: net(image))
    params = count_params(merged if merged_params else backbone, exclude)
    return Complexity(density * params, density * macs)


def segmentor_complexity(
    model: nn.Module,
    input_size: tuple[int, int] = (512, 2048),
    density: float = 1.0,
    backbone: Complexity | None = None,
    auxiliary_head: bool = True,
) -> Complexity:
    """Size of an mmseg segmentor as the ADE20K tables count it.

    Backbone times ``density`` plus the dense decode head; the auxiliary head counts in parameters, not in
    multiply-accumulates.

    Args:
        model: ``EncoderDecoder`` in train form.
        input_size: (H, W) in pixels; the tables' 2048 x 512 is (512, 2048) here.
        density: Share of the backbone's weights that is not zero.
        backbone: Size of the backbone where it is counted by another rule than :func:`backbone_complexity`.
        auxiliary_head: Whether the auxiliary head counts in parameters.
    """
    total = backbone_complexity(model.backbone, input_size, density) if backbone is None else backbone
    features = _features(model.backbone, input_size)
    total += _part_complexity(model.decode_head, features)
    if auxiliary_head and getattr(model, 'auxiliary_head', None) is not None:
        total += Complexity(count_params(model.auxiliary_head), 0)
    return total


def detector_complexity(
    model: nn.Module,
    input_size: tuple[int, int] = (800, 1280),
    density: float = 1.0,
    box_rois: int = 1000,
    mask_rois: int = 100,
    backbone: Complexity | None = None,
) -> Complexity:
    """Size of an mmdet detector as the COCO tables count it.

    Backbone times ``density`` plus neck, the dense head of a detector with one stage, or RPN, the box heads on
    ``box_rois`` regions and the mask heads on ``mask_rois``, of every stage of a cascade.

    Args:
        model: ``CascadeRCNN``, ``MaskRCNN``, ``FasterRCNN`` or ``FCOS`` with an mmlk backbone in train form.
        input_size: (H, W) in pixels; the tables' 1280 x 800 is (800, 1280) here.
        density: Share of the backbone's weights that is not zero.
        box_rois: Regions that each box head sees.
        mask_rois: Regions that each mask head sees.
        backbone: Size of the backbone where it is counted by another rule than :func:`backbone_complexity`.
    """
    total = backbone_complexity(model.backbone, input_size, density) if backbone is None else backbone
    features = _features(model.backbone, input_size)
    total += _part_complexity(model.neck, features)
    pyramid = copy.deepcopy(model.neck).to('meta').eval()(features)
    roi_head = getattr(model, 'roi_head', None)
    if roi_head is None:
        return total + _part_complexity(model.bbox_head, pyramid)
    total += _part_complexity(model.rpn_head, pyramid)
    for kind, rois in (('bbox', box_rois), ('mask', mask_rois)):
        for extractor, head in zip(
            _as_list(getattr(roi_head, f'{kind}_roi_extractor', None)),
            _as_list(getattr(roi_head, f'{kind}_head', None)),
            strict=True,
        ):
            size = extractor.roi_layers[0].output_size
            total += _part_complexity(head, torch.empty(rois, extractor.out_channels, *size, device='meta'))
    return total


def _features(backbone: nn.Module, input_size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    return merged_on_meta(backbone)(torch.empty(1, 3, *input_size, device='meta'))


def _part_complexity(part: nn.Module, inputs: object) -> Complexity:
    """Size of a neck or a head that is called with ``inputs`` on the meta device."""
    part = copy.deepcopy(part).to('meta').eval()
    return Complexity(count_params(part), count_macs(part, lambda net: net(inputs)))


def _as_list(modules: nn.Module | nn.ModuleList | None) -> list[nn.Module]:
    if modules is None:
        return []
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]

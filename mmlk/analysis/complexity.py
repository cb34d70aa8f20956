"""Parameters and multiply-accumulates, by the counting rules that reproduce the papers' tables.

Convolution and linear layers only, one multiply-accumulate per weight and output position. The papers' counts are of
the merged network and run on the meta device, so no memory is needed; :func:`sparse_complexity` counts the weights that
are really not zero.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mmlk.models import BaseMixer
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


@dataclass(frozen=True)
class LayerComplexity:
    """Size of one layer: a convolution, a linear layer, or a mixer in its train form.

    Attributes:
        name: Name of the module.
        weights: Number of weights, biases left out.
        nonzero: Number of those that are not zero.
        macs: Multiply-accumulates with all weights.
        nonzero_macs: Multiply-accumulates with those that are not zero.
    """

    name: str
    weights: int
    nonzero: int
    macs: int
    nonzero_macs: int

    @property
    def density(self) -> float:
        """Share of the weights that is not zero."""
        return self.nonzero / max(1, self.weights)


@dataclass(frozen=True)
class SparseComplexity:
    """Size of a network some of whose weights are zero.

    Attributes:
        layers: Layers in the order of the network.
        other_params: Parameters that are no weights of these layers, such as biases and norms: never counted as zero.
    """

    layers: tuple[LayerComplexity, ...]
    other_params: int

    @property
    def dense(self) -> Complexity:
        """Size with all weights."""
        params = self.other_params + sum(layer.weights for layer in self.layers)
        return Complexity(params, sum(layer.macs for layer in self.layers))

    @property
    def nonzero(self) -> Complexity:
        """Size of what is not zero."""
        params = self.other_params + sum(layer.nonzero for layer in self.layers)
        return Complexity(params, sum(layer.nonzero_macs for layer in self.layers))


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


def sparse_complexity(
    network: nn.Module,
    input_size: tuple[int, int],
    masks: Mapping[str, torch.Tensor] | None = None,
    merged: bool = False,
    exclude: str | None = 'position_embedding',
) -> SparseComplexity:
    """Size of a backbone or a classifier by the weights that are not zero, layer by layer.

    Equation: nonzero_macs = output positions x non-zero weights. A mixer in its train form costs the non-zero taps of
    the kernels its weights make, which for tied or shared weights are more than the weights.

    Args:
        network: Called with an image (1, 3, H, W); in any form, shrunk ones too.
        input_size: (H, W) in pixels.
        masks: Name of a weight -> which of its entries are active, in any shape that expands to that of the weight. The
            values of the weights do not matter then, the network may be on the meta device, and weights without a mask
            count whole. ``None``: zeros of the weights themselves.
        merged: Count the merged form of a network in train form. Zeros of kernels that are added there are often no
            zeros of the sum.
        exclude: Parameters whose name contains this are not counted.

    Raises:
        ValueError: ``masks`` name weights that the network does not have or do not expand to their shapes, or the
            network is on the meta device and there are no masks.
    """
    network = _with_values(network, masks)
    if merged:
        switch_to_deploy(network)
    positions = _output_positions(network, torch.empty(1, 3, *input_size))
    layers, counted = [], set()
    with torch.no_grad():
        for name, module in network.named_modules():
            # A layer inside a mixer in train form has no place of its own: the mixer convolves with its weights.
            if name not in positions or any(id(weight) in counted for weight in _weights_of(module)):
                continue
            weights = _weights_of(module)
            counted.update(map(id, weights))
            taps = [branch.kernel for branch in module.branches()] if isinstance(module, BaseMixer) else weights
            layers.append(
                LayerComplexity(
                    name,
                    weights=sum(weight.numel() for weight in weights),
                    nonzero=sum(int(weight.count_nonzero()) for weight in weights),
                    macs=positions[name] * sum(kernel.numel() for kernel in taps),
                    nonzero_macs=positions[name] * sum(int(kernel.count_nonzero()) for kernel in taps),
                )
            )
    others = [
        p for name, p in network.named_parameters() if id(p) not in counted and (exclude is None or exclude not in name)
    ]
    return SparseComplexity(tuple(layers), sum(p.numel() for p in others))


def _weights_of(module: nn.Module) -> list[torch.Tensor]:
    """Weights by which a layer multiplies; of a mixer in train form, all parameters with more than one axis."""
    if isinstance(module, BaseMixer):
        return [] if module.deployed else [p for p in module.parameters() if p.dim() > 1]
    return [module.weight] if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) else []


def _with_values(network: nn.Module, masks: Mapping[str, torch.Tensor] | None) -> nn.Module:
    """A copy on the CPU; with masks, all values are 1 or, where masked, 0, so that no sum of them cancels."""
    meta = any(p.is_meta for p in network.parameters())
    if meta and masks is None:
        raise ValueError('a network on the meta device has no weights to count: give masks')
    network = copy.deepcopy(network)
    network = network.to_empty(device='cpu') if meta else network.cpu()
    if masks is None:
        return network.eval()
    parameters = dict(network.named_parameters())
    unknown = next((name for name in masks if name not in parameters), None)
    if unknown is not None:
        raise ValueError(f'masks must be of weights of the network, got one of {unknown}')
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(1)
        for name, mask in masks.items():
            weight = parameters[name]
            try:
                weight.copy_(mask.to(weight.dtype).expand(weight.shape))
            except RuntimeError as error:
                raise ValueError(
                    f'the mask of {name} must expand to {tuple(weight.shape)}, got {tuple(mask.shape)}'
                ) from error
    return network.eval()


def _output_positions(network: nn.Module, image: torch.Tensor) -> dict[str, int]:
    """How often each weight of a layer is multiplied in a pass: its output positions, all passes added."""
    positions: dict[str, int] = {}
    on_meta = copy.deepcopy(network).to('meta')

    def add(name: str, module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if isinstance(module, nn.ConvTranspose2d):
            count = inputs[0].numel() // module.in_channels
        elif isinstance(module, nn.Linear):
            count = output.numel() // module.out_features
        else:
            count = output.shape[0] * output.shape[2] * output.shape[3]
        positions[name] = positions.get(name, 0) + count

    for name, module in on_meta.named_modules():
        if _weights_of(module):
            module.register_forward_hook(lambda *call, name=name: add(name, *call))
    with torch.no_grad():
        on_meta(image.to('meta'))
    return positions


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

"""The feature maps of any network: ours, those of the host toolboxes, timm's, one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from mmlk.errors import UsageError


class FeatureMaps:
    """Call a network and get its feature maps, shallow to deep, as (N, C, h, w).

    Where the network has stages that return one map each (``stages``, ``res_layers``, ``layer1`` ..), the maps are
    those, before any norm of the output, as the protocol wants them. Otherwise they are what the network returns: maps
    with channels first or last in any nesting, or tokens that fill the image.

    Args:
        network: The network, called with an image (N, C, H, W).

    Note:
        ``out_type`` of mmpretrain's transformers decides whether they return a map at all; it is set to ``'featmap'``
        during the call.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Feature maps of an image.

        Raises:
            UsageError: The network has no feature map.
        """
        stages = find_stages(self.network)
        seen: dict[int, object] = {}
        handles = [
            stage.register_forward_hook(lambda module, inputs, output, index=index: seen.update({index: output}))
            for index, stage in enumerate(stages)
        ]
        wants_map = 'featmap' in getattr(type(self.network), 'OUT_TYPES', ())
        kept = getattr(self.network, 'out_type', None)
        try:
            if wants_map:
                self.network.out_type = 'featmap'
            output = self.network(image)
        finally:
            if wants_map:
                self.network.out_type = kept
            for handle in handles:
                handle.remove()
        size = tuple(image.shape[2:])
        maps = [as_map(seen.get(index), size) for index in range(len(stages))]
        if stages and all(found is not None for found in maps):
            return maps
        prefix = getattr(self.network, 'num_prefix_tokens', getattr(self.network, 'num_extra_tokens', None))
        tensors = list(_tensors(output))
        maps = [found for found in (as_map(tensor, size, prefix) for tensor in tensors) if found is not None]
        if not maps:
            shapes = ', '.join(str(tuple(tensor.shape)) for tensor in tensors) or 'no tensor'
            raise UsageError(
                f'an effective receptive field needs a network with a feature map, {type(self.network).__name__} '
                f'returned {shapes} for an image of {size[0]} x {size[1]}; give a backbone that returns maps'
            )
        return maps


def find_stages(network: nn.Module) -> list[nn.Module]:
    """The stages of a network by their usual names, shallow to deep; empty where it has none."""
    stages = getattr(network, 'stages', None)
    if not isinstance(stages, (nn.ModuleList, nn.Sequential)):
        # Names of attributes, in the ResNets of the hosts and mmpretrain's RepVGG.
        names = getattr(network, 'res_layers', None) or (stages if isinstance(stages, (list, tuple)) else None)
        # MobileNets count on to layer7: these are no stages.
        if not names and not hasattr(network, 'layer5'):
            names = [name for name in ('layer1', 'layer2', 'layer3', 'layer4') if hasattr(network, name)]
        stages = [getattr(network, name, None) if isinstance(name, str) else name for name in names or ()]
    stages = list(stages)
    return stages if all(isinstance(stage, nn.Module) for stage in stages) else []


def pick_stage(maps: list[Tensor], stage: int, image_size: tuple[int, int]) -> int:
    """The index of a stage, counted from 0, or from the end where it is negative.

    Raises:
        UsageError: There is no such stage.
    """
    if not -len(maps) <= stage < len(maps):
        strides = ', '.join(f'{image_size[0] / found.shape[2]:g}' for found in maps)
        raise UsageError(
            f'stage must be between {-len(maps)} and {len(maps) - 1}, the network has {len(maps)} maps (strides '
            f'{strides}), got {stage}'
        )
    return stage % len(maps)


def as_map(tensor: object, size: tuple[int, int], prefix: int | None = None) -> Tensor | None:
    """A tensor as the feature map (N, C, h, w) of an image, or ``None`` where it is none.

    Args:
        tensor: (N, C, h, w), (N, h, w, C) or tokens (N, prefix + h w, C).
        size: (H, W) of the image in pixels.
        prefix: Tokens before those of the image; ``None`` tries 0 to 8.
    """
    if not isinstance(tensor, Tensor):
        return None
    if tensor.dim() == 4:
        if _covers(tensor.shape[2:], size):
            return tensor
        return tensor.permute(0, 3, 1, 2) if _covers(tensor.shape[1:3], size) else None
    if tensor.dim() != 3:
        return None
    for skipped in range(9) if prefix is None else (prefix,):
        for stride in range(1, min(size) + 1):
            height, width = size[0] // stride, size[1] // stride
            if height * width < tensor.shape[1] - skipped:
                break
            if height * width == tensor.shape[1] - skipped and height * width > 1:
                tokens = tensor[:, skipped:].transpose(1, 2)
                return tokens.reshape(tensor.shape[0], tensor.shape[2], height, width)
    return None


def _covers(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a map has the proportions of an image: one stride for both axes, up to rounding. A pooled one has not."""
    (height, width), stride = shape, max(size[0] / shape[0], size[1] / shape[1])
    if height > size[0] or width > size[1] or (height, width) == (1, 1):
        return False
    return abs(size[0] / stride - height) <= 1 and abs(size[1] / stride - width) <= 1


def _tensors(output: object) -> Iterator[Tensor]:
    """The tensors in an output of any nesting, in order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)

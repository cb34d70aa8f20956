"""What of a model of each host goes into a file: from an image to tensors, without lists of samples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlk.errors import UsageError

#: What a classifier or a segmentor may give.
OUTPUTS = ('logits', 'probabilities')
#: What the networks of the hosts do.
TASKS = {'mmpretrain': 'classification', 'mmseg': 'segmentation', 'mmdet': 'detection'}

#: Largest value of a pixel, where the file normalises.
PIXEL_MAX = 255


class ExportedNetwork(nn.Module):
    """The part of a model that is exported.

    =================  ==================================================================================
    classification     class scores (N, classes)
    segmentation       class scores of every pixel (N, classes, H, W), one pass over the whole image
    detection          maps of the neck, or of the backbone where there is no neck
    any, backbone      maps of the backbone
    =================  ==================================================================================

    Args:
        model: Classifier, segmentor or detector.
        task: One of the tasks above.
        output: ``'logits'``, or ``'probabilities'`` (softmax over the classes, sigmoid where there is one).
        preprocessing: Take pixel values from 0 to 255 and normalise them as the model's data preprocessor does.
        backbone: Only the backbone.

    Raises:
        UsageError: The model is not of this task, or has nothing of what is asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        task: str,
        output: str = 'logits',
        preprocessing: bool = False,
        backbone: bool = False,
    ) -> None:
        super().__init__()
        if task not in TASKS.values():
            raise UsageError(f'the task must be one of {", ".join(TASKS.values())}, got {task}')
        if output not in OUTPUTS:
            raise UsageError(f'the output must be one of {", ".join(OUTPUTS)}, got {output}')
        if output != 'logits' and (backbone or task == 'detection'):
            raise UsageError(f'{output} are there for classifiers and segmentors only; feature maps have none')
        self.kind = 'backbone' if backbone else task
        for part in {'backbone': ['backbone'], 'segmentation': ['decode_head']}.get(self.kind, []):
            if not hasattr(model, part):
                raise UsageError(f'expected a model with a {part}, {type(model).__name__} has none')
        self.model = model
        self.output = output
        self.preprocessing = preprocessing
        mean, std = normalisation(model)
        if preprocessing:
            if mean is None:
                raise UsageError('the data preprocessor of the model normalises nothing; leave out the preprocessing')
            self.register_buffer('mean', torch.tensor(mean).view(1, -1, 1, 1))
            self.register_buffer('std', torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an image (N, 3, H, W) to the outputs."""
        x = (image - self.mean) / self.std if self.preprocessing else image
        if self.kind == 'backbone':
            return _as_tuple(self.model.backbone(x))
        if self.kind == 'detection':
            return _as_tuple(self.model.extract_feat(x))
        scores = self.model(x, mode='tensor') if self.kind == 'classification' else self._segment(x)
        if not isinstance(scores, Tensor):
            raise UsageError(
                f'expected one tensor of class scores from {type(self.model).__name__}, got a {type(scores).__name__}: '
                'networks that predict queries or samples cannot be exported; --backbone exports the backbone'
            )
        if self.output == 'probabilities':
            scores = scores.sigmoid() if scores.shape[1] == 1 else scores.softmax(1)
        return (scores,)

    def _segment(self, x: Tensor) -> Tensor:
        features = self.model.extract_feat(x)
        heads = self.model.decode_head
        first, *others = heads if isinstance(heads, nn.ModuleList) else [heads]
        scores = first(features)
        for head in others:
            scores = head(features, scores)
        if not isinstance(scores, Tensor):
            return scores
        return F.interpolate(scores, size=x.shape[2:], mode='bilinear', align_corners=self.model.align_corners)

    def names(self, count: int) -> tuple[str, ...]:
        """Names of the outputs, of which there are ``count``."""
        if self.kind in ('backbone', 'detection'):
            word = 'stage' if self.kind == 'backbone' else 'level'
            return tuple(f'{word}{index}' for index in range(count))
        return (self.output,)

    def example(self, batch_size: int, size: tuple[int, int]) -> Tensor:
        """A random image (N, 3, H, W) as the network takes it: pixel values, or normalised ones."""
        generator = torch.Generator().manual_seed(0)
        shape = (batch_size, 3, *size)
        if self.preprocessing:
            return torch.rand(shape, generator=generator) * PIXEL_MAX
        return torch.randn(shape, generator=generator)


def normalisation(model: nn.Module) -> tuple[list[float] | None, list[float] | None]:
    """Mean and standard deviation per channel that the data preprocessor of a model applies; ``None`` where none."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        return None, None
    return mean.flatten().tolist(), std.flatten().tolist()


def channel_order(model: nn.Module) -> str:
    """Order of the channels the network wants: pictures are loaded as BGR, and the data preprocessor may turn them."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    names = ('channel_conversion', '_channel_conversion', 'to_rgb')
    return 'RGB' if any(getattr(preprocessor, name, False) for name in names) else 'BGR'


def _as_tuple(outputs: Tensor | list[Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)

"""Stand-in for mmcv's compiled operators (``mmcv._ext``), used only where no compiled module is found.

Box suppression and RoIAlign call torchvision's operators, which run on CPU and CUDA and need no compiler; the sigmoid
focal loss is plain torch. Every other operator exists, because mmcv looks them all up when ``mmcv.ops`` is imported,
and raises an error naming itself when it is called.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

__all__ = [
    'fill',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'nms',
    'roi_align_backward',
    'roi_align_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
]

# The compiled kernels clamp the argument of the logarithm at C's FLT_MIN, whatever the dtype.
_FLT_MIN = torch.finfo(torch.float32).tiny


def fill(module: ModuleType) -> None:
    """Give a module the operators of this file, and a raising one for every other public name.

    Args:
        module: The module to serve as ``mmcv._ext``.
    """
    module.__doc__ = __doc__
    for name in __all__:
        if name != 'fill':
            setattr(module, name, globals()[name])

    def __getattr__(name: str) -> Callable[..., NoReturn]:
        # Underscored names are Python's and other tools' questions about the module; no operator of mmcv has one.
        if name.startswith('_'):
            raise AttributeError(f'module {module.__name__!r} has no attribute {name!r}')
        operator = _missing_operator(name)
        setattr(module, name, operator)
        return operator

    module.__getattr__ = __getattr__


def _missing_operator(name: str) -> Callable[..., NoReturn]:

    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f'the operator {name!r} needs the compiled operators of mmcv, which are not installed here: replace '
            f'mmcv-lite by an mmcv compiled for torch {torch.__version__} (pip uninstall mmcv-lite; pip install '
            '--no-build-isolation "mmcv>=2.0.0,<2.2.0", which needs a compiler), or use a model without this operator'
        )

    operator.__name__ = operator.__qualname__ = name
    return operator


def get_compiler_version() -> str:
    """Say, where mmcv reports its compiler, that there was none."""
    return 'none (fallback operators of mmlk)'


def get_compiling_cuda_version() -> str:
    """Say, where mmcv reports the CUDA version of its operators, whose operators run."""
    return 'none (fallback operators of mmlk, on torchvision)'


def _computing_dtype(*tensors: Tensor) -> torch.dtype:
    """Choose float64 where an operand has it, else float32: torchvision wants one dtype and has no bfloat16 kernels.

    float16 and bfloat16 operands, as they arrive under autocast, are computed in float32, as torchvision itself does
    under autocast.
    """
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Suppress every box that overlaps a better one by more than the threshold.

    Args:
        boxes: Corners (N, 4) as x1, y1, x2, y2, in pixels.
        scores: Scores (N,).
        iou_threshold: Largest intersection over union that is kept.
        offset: A box is ``x2 - x1 + offset`` wide, in pixels; 0 or 1.

    Returns:
        Indices (K,) of the kept boxes, int64, by falling score.
    """
    from torchvision.ops import nms as torchvision_nms

    dtype = _computing_dtype(boxes, scores)
    boxes = boxes.to(dtype)
    if offset:
        # torchvision has no offset, and moving the far corner outwards by it gives the same sizes and overlaps.
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision_nms(boxes, scores.to(dtype), float(iou_threshold))


def _check_average_pooling(pool_mode: int) -> None:
    if pool_mode != 1:
        raise RuntimeError(
            "roi_align with pool_mode='max' needs the compiled operators of mmcv: without them set "
            "pool_mode='avg', the default, in the RoI layer"
        )


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average each region of interest over a grid of cells, bilinearly sampled.

    Args:
        input: Feature map (N, C, H, W).
        rois: Regions (K, 5) as image index, x1, y1, x2, y2, in pixels of the image.
        output: Receives the result (K, C, aligned_height, aligned_width).
        argmax_y: Unused; belongs to max pooling.
        argmax_x: Unused; belongs to max pooling.
        aligned_height: Rows of cells.
        aligned_width: Columns of cells.
        spatial_scale: Pixels of the feature map per pixel of the image.
        sampling_ratio: Samples per cell and direction; 0 takes one per pixel of the feature map.
        pool_mode: 1, the average.
        aligned: Shift the regions by half a pixel, so that pixel centres lie at half-integers.

    Raises:
        RuntimeError: ``pool_mode`` is 0, the maximum.
    """
    _check_average_pooling(pool_mode)
    import torchvision.ops  # noqa: F401  registers torch.ops.torchvision

    dtype = _computing_dtype(input, rois)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input.to(dtype), rois.to(dtype), spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of `roi_align_forward` with respect to the feature map.

    Args:
        grad_output: Gradient (K, C, aligned_height, aligned_width) of the result.
        rois: Regions (K, 5), as in the forward pass.
        argmax_y: Unused; belongs to max pooling.
        argmax_x: Unused; belongs to max pooling.
        grad_input: Receives the gradient (N, C, H, W).
        aligned_height: As in the forward pass.
        aligned_width: As in the forward pass.
        spatial_scale: As in the forward pass.
        sampling_ratio: As in the forward pass.
        pool_mode: 1, the average.
        aligned: As in the forward pass.

    Raises:
        RuntimeError: ``pool_mode`` is 0, the maximum.

    Note:
        Under ``torch.use_deterministic_algorithms(True)`` torchvision's CUDA kernel raises, because it adds with
        atomics; mmcv's kernel adds with atomics as well and stays silent.
    """
    _check_average_pooling(pool_mode)
    import torchvision.ops  # noqa: F401  registers torch.ops.torchvision

    dtype = _computing_dtype(grad_output, rois)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of independent sigmoid classifiers, one per class (arXiv 1708.02002, equation 5).

    Equation, with p = sigmoid(x) and w = weight[target]: -w alpha (1-p)^gamma log(p) at the target class,
    -w (1-alpha) p^gamma log(1-p) elsewhere.

    Args:
        input: Logits (N, C).
        target: Class index (N,) int64; ``C`` stands for the background, which is no class's target.
        weight: Weight of each class (C,), or an empty tensor for none.
        output: Receives the loss (N, C).
        gamma: Focusing exponent.
        alpha: Weight of the target class against the others, as a fraction.

    Note:
        mmcv reads ``weight`` out of bounds where the target is the background; the weight is 1 there.
    """
    logits, is_target, row_weight = _focal_terms(input, target, weight)
    p = logits.sigmoid()
    at_target = -alpha * (1 - p).pow(gamma) * p.clamp(min=_FLT_MIN).log()
    elsewhere = -(1 - alpha) * p.pow(gamma) * (1 - p).clamp(min=_FLT_MIN).log()
    output.copy_(torch.where(is_target, at_target, elsewhere) * row_weight)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of `sigmoid_focal_loss_forward` with respect to each logit.

    Args:
        input: Logits (N, C).
        target: Class index (N,) int64, as in the forward pass.
        weight: Weight of each class (C,), or an empty tensor for none.
        grad_input: Receives the derivative (N, C).
        gamma: Focusing exponent.
        alpha: Weight of the target class against the others, as a fraction.
    """
    logits, is_target, row_weight = _focal_terms(input, target, weight)
    p = logits.sigmoid()
    q = 1 - p
    at_target = -alpha * q.pow(gamma) * (q - gamma * p * p.clamp(min=_FLT_MIN).log())
    elsewhere = -(1 - alpha) * p.pow(gamma) * (gamma * q * q.clamp(min=_FLT_MIN).log() - p)
    grad_input.copy_(torch.where(is_target, at_target, elsewhere) * row_weight)


def _focal_terms(input: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bring the operands to one floating dtype and to shapes that broadcast against (N, C)."""
    logits = input.to(_computing_dtype(input))
    num_classes = logits.size(1)
    is_target = target[:, None] == torch.arange(num_classes, device=target.device)
    if not weight.numel():
        return logits, is_target, logits.new_ones(())
    in_range = (target >= 0) & (target < num_classes)
    padded = torch.cat([weight.to(logits.dtype), logits.new_ones(1)])
    return logits, is_target, padded[torch.where(in_range, target, num_classes), None]

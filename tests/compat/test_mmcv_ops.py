"""The stand-in operators against torchvision, plain formulas and numbers computed by hand."""

import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmcv.ops import RoIAlign, SigmoidFocalLoss, get_compiler_version, nms, roi_align, sigmoid_focal_loss, soft_nms

from mmlk.compat import mmcv_ops

HALF_TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 2e-2}  # relative; half a unit in the last place of the result


@pytest.fixture(scope='module')
def extension() -> types.ModuleType:
    """The fallback itself, also where mmcv has compiled operators."""
    module = types.ModuleType('mmcv._ext')
    mmcv_ops.fill(module)
    return module


def random_boxes(count: int, seed: int, size: float = 60.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (count, 4) that overlap a good deal, and distinct scores (count,)."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * size
    sizes = size / 4 * (1 + torch.rand(count, 2, generator=generator) / 2)
    boxes = torch.cat([corners, corners + sizes], dim=1)
    return boxes, torch.randperm(count, generator=generator).float() / count


def plain_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    """The definition: take the best box left, drop what overlaps it by more than the threshold, repeat."""
    kept, left = [], list(np.argsort(-scores))
    while left:
        best = left.pop(0)
        kept.append(int(best))
        survivors = []
        for other in left:
            width = min(boxes[best, 2], boxes[other, 2]) - max(boxes[best, 0], boxes[other, 0]) + offset
            height = min(boxes[best, 3], boxes[other, 3]) - max(boxes[best, 1], boxes[other, 1]) + offset
            shared = max(width, 0) * max(height, 0)
            areas = [(b[2] - b[0] + offset) * (b[3] - b[1] + offset) for b in (boxes[best], boxes[other])]
            if shared / (sum(areas) - shared) <= threshold:
                survivors.append(other)
        left = survivors
    return kept


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('threshold', [0.3, 0.7])
def test_nms_equals_torchvision(seed: int, threshold: float):
    boxes, scores = random_boxes(80, seed, size=20.0)
    detections, indices = nms(boxes, scores, threshold)
    expected = torchvision.ops.nms(boxes, scores, threshold)
    assert torch.equal(indices, expected)
    assert torch.equal(detections, torch.cat([boxes[expected], scores[expected, None]], dim=1))
    assert 0 < len(expected) < 80


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('offset', [0, 1])
def test_nms_equals_its_definition(seed: int, offset: int):
    boxes, scores = random_boxes(60, seed, size=20.0)
    expected = plain_nms(boxes.double().numpy(), scores.numpy(), 0.4, offset)
    assert nms(boxes.double(), scores.double(), 0.4, offset=offset)[1].tolist() == expected
    assert nms(boxes, scores, 0.4, offset=offset)[1].tolist() == expected


def test_nms_offset_by_hand():
    # Two 2 x 1 boxes that share half: overlap 1/3 as areas of a plane; as 3 x 2 pixels they share 2 x 2: 4 / 8 = 1/2.
    boxes, scores = torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 3.0, 1.0]]), torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.4, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.4, offset=1)[1].tolist() == [0]
    assert nms(boxes, scores, 0.5, offset=1)[1].tolist() == [0, 1]
    assert boxes.tolist() == [[0, 0, 2, 1], [1, 0, 3, 1]]


def test_nms_options_of_mmcv():
    boxes, scores = random_boxes(30, 0)
    all_kept = nms(boxes, scores, 0.5)[1]
    assert nms(boxes, scores, 0.5, max_num=3)[1].tolist() == all_kept[:3].tolist()
    above = nms(boxes, scores, 0.5, score_threshold=0.5)[1]
    assert above.tolist() == [index for index in all_kept.tolist() if scores[index] > 0.5]
    assert nms(boxes.numpy(), scores.numpy(), 0.5)[1].tolist() == all_kept.tolist()
    assert nms(boxes[:0], scores[:0], 0.5)[1].tolist() == []


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_nms_mixed_precision(dtype: torch.dtype):
    boxes, scores = random_boxes(40, 1)
    boxes = boxes.to(dtype).float()  # values both dtypes hold exactly
    expected = nms(boxes, scores, 0.5)[1]
    assert torch.equal(nms(boxes.to(dtype), scores, 0.5)[1], expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(nms(boxes, scores, 0.5)[1], expected)


def random_regions(count: int, images: int, seed: int) -> torch.Tensor:
    boxes, _ = random_boxes(count, seed, size=40.0)
    index = torch.randint(images, (count, 1), generator=torch.Generator().manual_seed(seed))
    return torch.cat([index.float(), boxes], dim=1)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_roi_align_equals_torchvision(seed: int, aligned: bool, sampling_ratio: int, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, 17, 13, generator=generator, dtype=dtype)
    regions = random_regions(9, 2, seed).to(dtype)
    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    output = roi_align(ours, regions, (5, 4), 0.25, sampling_ratio, 'avg', aligned)
    expected = torchvision.ops.roi_align(theirs, regions, (5, 4), 0.25, sampling_ratio, aligned)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    weights = torch.randn(output.shape, generator=generator, dtype=dtype)
    # transposed, so that the incoming gradient is not contiguous
    (output.transpose(2, 3) * weights.transpose(2, 3)).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)
    assert ours.grad.abs().sum() > 0


def test_roi_align_gradcheck():
    features = torch.randn(1, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    regions = torch.tensor([[0, 0.5, 1.0, 4.0, 5.5], [0, 1.2, 0.3, 2.9, 2.8]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, regions, 3, 1.0, 2, 'avg', True), features)


def test_roi_align_by_hand():
    # One sample in the middle of each cell. The region's cells are 2 x 2 pixels; aligned, their middles lie between
    # pixels (means of four); not aligned, on pixels.
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    region = torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]])
    assert roi_align(features, region, 2, 1.0, 1, 'avg', True).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert roi_align(features, region, 2, 1.0, 1, 'avg', False).flatten().tolist() == [5.0, 7.0, 13.0, 15.0]
    features.requires_grad_()
    roi_align(features, region, 2, 1.0, 1, 'avg', True)[0, 0, 0, 1].backward()
    assert features.grad[0, 0].tolist() == [[0, 0, 0.25, 0.25], [0, 0, 0.25, 0.25], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_roi_align_without_regions():
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    output = roi_align(features, torch.zeros(0, 5), 7, 0.5, 0, 'avg', True)
    assert output.shape == (0, 3, 7, 7)
    output.sum().backward()
    assert features.grad.shape == features.shape and not features.grad.any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_roi_align_mixed_precision(dtype: torch.dtype):
    """Features in half precision with regions in float32, as they arrive under autocast."""
    features = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    regions = random_regions(5, 1, 0)
    exact = features.double().requires_grad_()
    half = features.clone().requires_grad_()
    expected = torchvision.ops.roi_align(exact, regions.double(), (3, 3), 0.25, 0, True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = RoIAlign((3, 3), 0.25, 0)(half, regions)
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), expected, rtol=HALF_TOLERANCE[dtype], atol=HALF_TOLERANCE[dtype])
    output.sum().backward()
    expected.sum().backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad.double(), exact.grad, rtol=HALF_TOLERANCE[dtype], atol=HALF_TOLERANCE[dtype])


def test_roi_align_writes_every_element(extension: types.ModuleType):
    features, regions = torch.randn(1, 2, 8, 8), random_regions(4, 1, 2)
    nothing = torch.empty(0)
    output = torch.full((4, 2, 3, 3), float('nan'))
    extension.roi_align_forward(features, regions, output, nothing, nothing, 3, 3, 0.25, 0, 1, True)
    assert output.isfinite().all()
    gradient = torch.full((1, 2, 8, 8), float('nan'))
    extension.roi_align_backward(output, regions, nothing, nothing, gradient, 3, 3, 0.25, 0, 1, True)
    assert gradient.isfinite().all()


def test_roi_align_refuses_max_pooling(extension: types.ModuleType):
    nothing = torch.empty(0)
    arguments = (torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), torch.zeros(1, 1, 2, 2), nothing, nothing)
    for operator in (extension.roi_align_forward, extension.roi_align_backward):
        with pytest.raises(RuntimeError, match="pool_mode='max' needs the compiled operators.*pool_mode='avg'"):
            operator(*arguments, 2, 2, 1.0, 0, 0, True)


def plain_focal_loss(logits: torch.Tensor, target: torch.Tensor, gamma: float, alpha: float) -> torch.Tensor:
    """Binary cross entropy (N, C) of the one-hot target, times the focusing factor and the balance."""
    one_hot = F.one_hot(target, logits.size(1) + 1)[:, :-1].to(logits.dtype)
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    factor = one_hot * alpha * (1 - p) ** gamma + (1 - one_hot) * (1 - alpha) * p**gamma
    return factor * entropy


@pytest.mark.parametrize('gamma', [0.0, 1.5, 2.0])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize('weighted', [False, True])
def test_focal_loss_equals_plain_formula(gamma: float, reduction: str, weighted: bool, monkeypatch: pytest.MonkeyPatch):
    if reduction == 'none':
        # mmcv scales the derivative by the incoming gradient; let the incoming one differ per element.
        def reduce(loss: torch.Tensor) -> torch.Tensor:
            return (loss * torch.arange(loss.numel(), dtype=loss.dtype).reshape(loss.shape)).sum()
    else:

        def reduce(loss: torch.Tensor) -> torch.Tensor:
            return loss

    monkeypatch.setattr('mmcv.ops.focal_loss.ext_module', mmcv_ops)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(7, 4, generator=generator, dtype=torch.float64) * 3
    target = torch.tensor([0, 1, 2, 3, 4, 4, 1])  # 4 is the background
    weight = torch.rand(4, generator=generator, dtype=torch.float64) + 0.5 if weighted else None
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = sigmoid_focal_loss(ours, target, gamma, 0.25, weight, reduction)
    row_weight = torch.cat([weight, torch.ones(1)])[target, None] if weighted else 1.0
    expected = plain_focal_loss(plain, target, gamma, 0.25) * row_weight
    if reduction != 'none':
        expected = expected.sum() / (7 if reduction == 'mean' else 1)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    reduce(loss).backward()
    reduce(expected).backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-10, atol=1e-12)


def test_focal_loss_by_hand(extension: types.ModuleType):
    # p = 1/2 everywhere, gamma 2: the factor is 1/4, the entropy log 2; balance 1/4 at the target, 3/4 elsewhere.
    logits, target, none = torch.zeros(2, 2), torch.tensor([1, 2]), torch.empty(0)
    output = torch.full((2, 2), float('nan'))
    extension.sigmoid_focal_loss_forward(logits, target, none, output, gamma=2.0, alpha=0.25)
    target_loss, other_loss = 0.6931471805599453 / 16, 0.6931471805599453 * 3 / 16
    expected = torch.tensor([[other_loss, target_loss], [other_loss, other_loss]])
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=0)
    # d/dx: -(1/16)(1/2 - log(1/2)) at the target, -(3/16)(log(1/2) - 1/2) elsewhere
    extension.sigmoid_focal_loss_backward(logits, target, none, output, gamma=2.0, alpha=0.25)
    slope = 0.5 + 0.6931471805599453
    expected = torch.tensor([[slope * 3, -slope], [slope * 3, slope * 3]]) / 16
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=0)


def test_focal_loss_saturates_as_the_compiled_one(extension: types.ModuleType):
    # The compiled kernels clamp p at FLT_MIN before the logarithm: -log(1.1754944e-38) = 87.3365448.
    logits, target, none = torch.tensor([[-200.0, 200.0]]), torch.tensor([0]), torch.empty(0)
    output = torch.empty(1, 2)
    extension.sigmoid_focal_loss_forward(logits, target, none, output, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(output, torch.tensor([[0.25, 0.75]]) * 87.3365448, rtol=1e-6, atol=0)
    extension.sigmoid_focal_loss_backward(logits, target, none, output, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(output, torch.tensor([[-0.25, 0.75]]), rtol=1e-6, atol=0)


def test_focal_loss_in_half_precision(extension: types.ModuleType):
    logits = torch.tensor([[-20.0, 0.5, 20.0]], dtype=torch.float16)
    target, none = torch.tensor([0]), torch.empty(0, dtype=torch.float16)
    output, wide = torch.empty(1, 3, dtype=torch.float16), torch.empty(1, 3)
    extension.sigmoid_focal_loss_forward(logits, target, none, output, gamma=2.0, alpha=0.25)
    extension.sigmoid_focal_loss_forward(logits.float(), target, none.float(), wide, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(output.float(), wide, rtol=2e-3, atol=0)


def test_focal_loss_module():
    layer = SigmoidFocalLoss(2.0, 0.25)
    assert layer(torch.zeros(2, 2), torch.tensor([1, 2])).item() == pytest.approx(0.6931471805599453 * 10 / 16 / 2)


def test_missing_operator_names_itself_and_the_cure(extension: types.ModuleType):
    with pytest.raises(RuntimeError, match="'softmax_focal_loss_forward' needs the compiled operators.*install"):
        extension.softmax_focal_loss_forward()
    with pytest.raises(RuntimeError, match="'ms_deform_attn_forward'.*replace mmcv-lite by an mmcv compiled for torch"):
        extension.ms_deform_attn_forward(torch.zeros(1), key=2)
    assert extension.softnms is extension.softnms and extension.softnms.__name__ == 'softnms'


@pytest.mark.skipif('none' not in get_compiler_version(), reason='mmcv has compiled operators')
def test_missing_operator_through_mmcv():
    boxes, scores = random_boxes(5, 0)
    with pytest.raises(RuntimeError, match="the operator 'softnms' needs the compiled operators"):
        soft_nms(boxes, scores)


def test_underscored_names_are_absent(extension: types.ModuleType):
    for name in ('__wrapped__', '__file__', '__path__', '_private'):
        assert not hasattr(extension, name)


def test_versions_say_what_runs(extension: types.ModuleType):
    assert extension.get_compiler_version() == 'none (fallback operators of mmlk)'
    assert extension.get_compiling_cuda_version() == 'none (fallback operators of mmlk, on torchvision)'


def test_every_operator_mmcv_looks_up_exists(extension: types.ModuleType):
    for name in ('nms_rotated', 'deform_conv_forward', 'filtered_lrelu_act_', 'carafe_backward', 'bbox_overlaps'):
        assert callable(getattr(extension, name))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_operators_on_cuda(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """The same results as on the CPU, from operands in the given dtype with regions in float32."""
    monkeypatch.setattr('mmcv.ops.roi_align.ext_module', mmcv_ops)
    monkeypatch.setattr('mmcv.ops.nms.ext_module', mmcv_ops)
    monkeypatch.setattr('mmcv.ops.focal_loss.ext_module', mmcv_ops)
    tolerance = {torch.float32: 1e-5, **HALF_TOLERANCE}[dtype]
    boxes, scores = random_boxes(200, 0)
    boxes = boxes.to(dtype)
    assert torch.equal(nms(boxes.cuda(), scores.cuda(), 0.5)[1].cpu(), nms(boxes, scores, 0.5)[1])
    features, regions = torch.randn(2, 8, 20, 20).to(dtype), random_regions(30, 2, 0)
    host, device = features.clone().requires_grad_(), features.cuda().requires_grad_()
    with torch.autocast('cuda', dtype=torch.float16):
        output = roi_align(device, regions.cuda(), 7, 0.25, 0, 'avg', True)
    expected = roi_align(host, regions, 7, 0.25, 0, 'avg', True)
    assert output.dtype == dtype
    torch.testing.assert_close(output.cpu(), expected, rtol=tolerance, atol=tolerance)
    output.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(device.grad.cpu(), host.grad, rtol=tolerance, atol=10 * tolerance)
    logits, target = torch.randn(50, 6).to(dtype), torch.randint(7, (50,))
    loss = sigmoid_focal_loss(logits.cuda(), target.cuda(), 2.0, 0.25, torch.ones(6, dtype=dtype).cuda(), 'none')
    expected = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'none')
    torch.testing.assert_close(loss.cpu(), expected, rtol=tolerance, atol=tolerance)

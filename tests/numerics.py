"""Tolerances and helpers of all numerical tests."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: ||a - b|| / ||b|| allowed against a float64 reference, per dtype of the computation. Sums of up to 10^4 terms are
#: accumulated in float32 or wider; the value is the rounding of inputs and outputs.
TOLERANCE = {
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
    torch.float32: 2e-6,
    torch.float64: 1e-13,
}

#: Train form against fused form: per block, per network.
FUSION_BLOCK = {torch.float32: 1e-5, torch.float64: 1e-10}
FUSION_NETWORK = {torch.float32: 1e-4, torch.float64: 1e-10}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """||actual - expected|| / ||expected||, in float64; 0 for two empty or two zero tensors."""
    assert actual.shape == expected.shape, f'{tuple(actual.shape)} against {tuple(expected.shape)}'
    assert torch.isfinite(actual).all(), 'the result holds NaN or infinity'
    difference = (actual.double() - expected.double()).norm()
    if difference == 0:
        return 0.0
    return (difference / expected.double().norm()).item()


def assert_close(actual: Tensor, expected: Tensor, dtype: torch.dtype | None = None) -> None:
    """Assert the relative error within the tolerance of ``dtype`` (default: that of ``actual``)."""
    error = relative_error(actual, expected)
    limit = TOLERANCE[dtype or actual.dtype]
    assert error <= limit, f'relative error {error:.3g} exceeds {limit:.3g}'


def randomise(model: nn.Module) -> nn.Module:
    """Give norms, layer scales and biases values as after training, so that forgetting one shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # A GRN has the authors' (1, 1, 1, C).
            if parameter.ndim == 1 or 'grn.' in name:
                parameter.normal_(1.0 if name.endswith(('weight', 'gamma')) else 0.0, 0.3)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.3, 3.0)
    return model

"""``nn.SyncBatchNorm`` where PyTorch has none: on the CPU."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


class CpuSyncBatchNorm(_BatchNorm):
    """``nn.SyncBatchNorm`` for tensors on the CPU, over a process group such as gloo.

    In training, mean and variance are those of the values that all processes have together, however many each has, none
    included; running statistics take the unbiased variance of them. In evaluation and in one process it is a plain
    BatchNorm. State dict and arguments are those of ``nn.SyncBatchNorm``, which it does not derive from, because
    ``DistributedDataParallel`` refuses that on the CPU.

    Raises:
        ValueError: The input has fewer than two axes, or, in training, all processes together have fewer than two
            values per channel.

    Example:
        >>> CpuSyncBatchNorm(2)(torch.tensor([[1.0, 2.0], [3.0, 6.0]])).round()
        tensor([[-1., -1.],
                [ 1.,  1.]], grad_fn=<RoundBackward0>)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: dist.ProcessGroup | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f'expected input with at least 2 axes, got {input.dim()}')

    def forward(self, input: Tensor) -> Tensor:
        together = self.training and dist.is_available() and dist.is_initialized()
        if not together or dist.get_world_size(self.process_group) == 1:
            return super().forward(input)
        self._check_input_dim(input)
        output, mean, variance, count = _SyncBatchNormFunction.apply(
            input, self.weight, self.bias, self.eps, self.process_group
        )
        if self.track_running_stats:
            self._track(mean, variance * (count / (count - 1)))
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        # Without a momentum the statistics are those of all batches alike.
        share = 1.0 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def sync_batch_norm_on_cpu(model: nn.Module) -> int:
    """Make every ``nn.SyncBatchNorm`` of a model a :class:`CpuSyncBatchNorm`, in place; returns how many there were.

    The modules stay and only change their class: parameters, buffers, hooks and names are what they were.
    """
    # That of MMEngine derives from it.
    plain = nn.SyncBatchNorm.forward
    layers = [m for m in model.modules() if isinstance(m, nn.SyncBatchNorm) and type(m).forward is plain]
    for layer in layers:
        layer.__class__ = CpuSyncBatchNorm
    return len(layers)


class _SyncBatchNormFunction(torch.autograd.Function):
    """Normalise by the statistics of all processes; in letters, x_hat = (x - mean) / std and y = w x_hat + b.

    The loss of the run is a sum over processes, and mean and std depend on all x, so with N values per channel

        dL/dx = w / std * (dy - sum(dy) / N - x_hat sum(dy x_hat) / N), sums over all processes.

    Gradients of w and b are those of this process, as those of all parameters: wrappers average them afterwards.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps, group):
        wide = _wide(x)
        count = x.numel() // x.shape[1]
        # Variances come with their means, so that no difference of large sums is taken.
        statistics = torch.var_mean(wide, _axes(x), correction=0) if count else wide.new_zeros(2, x.shape[1])
        # In float64, in which counts are exact.
        own = torch.cat([torch.tensor([count]), *statistics]).double()
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(gathered, own, group=group)
        counts, variances, means = torch.stack(gathered).split([1, x.shape[1], x.shape[1]], 1)
        total = int(counts.sum())
        if total < 2:
            raise ValueError(f'SyncBatchNorm needs 2 or more values per channel in all processes, got {total}')
        shares = counts / total
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        inverse_std = (variance + eps).rsqrt()
        mean, variance, inverse_std = (value.to(wide.dtype) for value in (mean, variance, inverse_std))
        normalised = (wide - _spread(mean, x)) * _spread(inverse_std, x)
        output = normalised if weight is None else normalised * _spread(weight, x)
        output = output if bias is None else output + _spread(bias, x)
        ctx.save_for_backward(x, weight, mean, inverse_std)
        ctx.total, ctx.group = total, group
        ctx.mark_non_differentiable(mean, variance)
        return output.to(x.dtype), mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, *_):
        x, weight, mean, inverse_std = ctx.saved_tensors
        axes = _axes(x)
        gradient = gradient.to(mean.dtype)
        normalised = (_wide(x) - _spread(mean, x)) * _spread(inverse_std, x)
        sums = torch.stack([gradient.sum(axes), (gradient * normalised).sum(axes)])
        of_bias, of_weight = sums.unbind()
        of_input = None
        if ctx.needs_input_grad[0]:
            # A copy: the sums of this process are gradients of its parameters.
            everywhere = sums.clone()
            dist.all_reduce(everywhere, group=ctx.group)
            first, second = everywhere / ctx.total
            of_input = gradient - _spread(first, x) - normalised * _spread(second, x)
            scale = inverse_std if weight is None else inverse_std * weight
            of_input = (of_input * _spread(scale, x)).to(x.dtype)
        of_weight = of_weight.to(weight.dtype) if ctx.needs_input_grad[1] else None
        of_bias = of_bias.to(weight.dtype) if ctx.needs_input_grad[2] else None
        return of_input, of_weight, of_bias, None, None


def _wide(x: Tensor) -> Tensor:
    """The number format of sums: at least float32."""
    return x if x.dtype == torch.float64 else x.float()


def _axes(x: Tensor) -> list[int]:
    """All but the channels."""
    return [0, *range(2, x.dim())]


def _spread(per_channel: Tensor, x: Tensor) -> Tensor:
    """(C,) as (1, C, 1, ...), to go with ``x``."""
    return per_channel.view(1, -1, *[1] * (x.dim() - 2))

"""What all mixers share: channel routing, the sum of branches, and its fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmlk.models.layers import LargeKernelConv2d
from mmlk.models.reparam import FORMS, Branch, Fusable, merge_branches
from mmlk.ops import depthwise_conv2d


class BaseMixer(Fusable, nn.Module):
    """A sum of depthwise branches on some of the channels; the others pass by.

    A subclass creates its train-time parameters in :meth:`build_branches` and yields them in :meth:`branches`; forward
    and fusion follow from that. Its ``__init__`` ends with :meth:`build`. It may route channels differently with
    :meth:`split` and :meth:`concat`.

    Args:
        channels: Channels of input and output.
        kernel_size: Edges (R, S) of the fused kernel.
        conv_channels: Channels that go through the kernel; ``None`` means all.
        backend: Backend of the op; ``None`` takes the first that can run.

    Attributes:
        forms: Fused forms the mixer has, the preferred one first.
        large_kernel_weights: Attributes that hold the train-time parameters of the large kernel, for sparse training: a
            parameter, or an ``nn.ParameterList`` whose members are added up.
    """

    forms: tuple[str, ...] = ('dense',)
    large_kernel_weights: tuple[str, ...] = ()

    def __init__(
        self,
        channels: int,
        kernel_size: tuple[int, int],
        conv_channels: int | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.kernel_size = kernel_size
        self.conv_channels = channels if conv_channels is None else conv_channels
        self.backend = backend
        self.reparam_convs: nn.ModuleList | None = None

    def build(self, deploy: bool | str) -> None:
        """Create the train-time branches, or a fused form (by name, or the preferred one) with weights to be loaded."""
        if deploy:
            self.reparam_convs = self._make_deploy_convs(self._resolve_form('auto' if deploy is True else deploy))
        else:
            self.build_branches()

    @property
    def deployed(self) -> bool:
        """Whether the mixer is in its fused form."""
        return self.reparam_convs is not None

    def build_branches(self) -> None:
        """Create the train-time parameters and norms."""
        raise NotImplementedError

    def branches(self) -> list[Branch]:
        """The train-time branches, whose outputs are added."""
        raise NotImplementedError

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Part the input (N, C, H, W) into the channels for the kernel and those that pass by."""
        if self.conv_channels == self.channels:
            return x, None
        return x[:, : self.conv_channels], x[:, self.conv_channels :]

    def concat(self, convolved: Tensor, passed: Tensor | None) -> Tensor:
        """Put the output (N, C, H, W) together again."""
        return convolved if passed is None else torch.cat([convolved, passed], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (N, C, H, W) to the same shape."""
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f'{type(self).__name__} expects (N, {self.channels}, H, W), got {tuple(x.shape)}')
        x, passed = self.split(x)
        return self.concat(self.mix(x), passed)

    def mix(self, x: Tensor) -> Tensor:
        """The sum of the convolutions, of the channels that go through the kernel only."""
        if self.reparam_convs is not None:
            outputs = [conv(x) for conv in self.reparam_convs]
        else:
            outputs = self.convolve_branches(x)
        return sum(outputs[1:], outputs[0])

    def convolve_branches(self, x: Tensor) -> list[Tensor]:
        """The outputs of the train-time branches, normed."""
        outputs = []
        for kernel, bias, norm in self.branches():
            y = depthwise_conv2d(x, kernel, bias, backend=self.backend)
            outputs.append(y if norm is None else norm(y))
        return outputs

    @torch.no_grad()
    def fused_kernel_bias(self, form: str = 'auto') -> list[tuple[Tensor, Tensor]]:
        """Kernel (C, 1, R, S) and bias (C,) of each convolution of the fused form, from the statistics of evaluation.

        Raises:
            ValueError: The mixer does not have this form.
        """
        return [merge_branches(group) for group in self.group_branches(self._resolve_form(form))]

    def group_branches(self, form: str) -> list[list[Branch]]:
        """Branches that fuse into one convolution each; one group for the dense form."""
        return [self.branches()]

    @torch.no_grad()
    def switch_to_deploy(self, form: str = 'auto') -> None:
        """Replace the branches by their fused form, on the same device and with the same dtype; idempotent.

        Args:
            form: ``'auto'``, ``'dense'`` or ``'strips'``.

        Raises:
            ValueError: The mixer does not have this form.
        """
        form = self._resolve_form(form)
        if self.deployed:
            return
        fused = self.fused_kernel_bias(form)
        convs = self._make_deploy_convs(form, device=fused[0][0].device, dtype=fused[0][0].dtype)
        for conv, (kernel, bias) in zip(convs, fused, strict=True):
            conv.weight.copy_(kernel)
            conv.bias.copy_(bias)
        self.release_branches()
        self.reparam_convs = convs.train(self.training)

    def release_branches(self) -> None:
        """Drop everything that only the train-time form needs."""
        for name in [*self._parameters, *self._modules, *self._buffers]:
            delattr(self, name)

    def deploy_kernel_sizes(self, form: str) -> list[tuple[int, int]]:
        """Kernel sizes of the fused form."""
        return [self.kernel_size]

    def _make_deploy_convs(self, form: str, **factory) -> nn.ModuleList:
        channels = self.conv_channels
        convs = [
            LargeKernelConv2d(channels, channels, size, bias=True, backend=self.backend, **factory)
            for size in self.deploy_kernel_sizes(form)
        ]
        return nn.ModuleList(convs).requires_grad_(False)

    def _resolve_form(self, form: str) -> str:
        if form not in FORMS:
            raise ValueError(f'form must be one of {FORMS}, got {form!r}')
        if form == 'auto':
            return self.forms[0]
        if form not in self.forms:
            raise ValueError(f'{type(self).__name__} has the fused forms {self.forms}, got form={form!r}')
        return form

"""What was cut, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass

from mmlk.nn.compact_conv import KernelGroup


@dataclass(frozen=True)
class ShrunkLayer:
    """What happened to the convolutions of one mixer.

    Attributes:
        name: Its name in the model.
        groups: What it computes now; of an unchanged one, what it computed.
        taps: Weights before and after, zeros included.
        nonzero: Weights that are not zero, of the sum of the kernels.
        zero_channels: Channels whose kernels are zero.
        predicted_ms: Predicted milliseconds before and of the best plan.
        measured_ms: Measured milliseconds before and of the best plan, where asked for.
        kept: Why it was left as it is; empty if it was shrunk.
    """

    name: str
    groups: tuple[KernelGroup, ...]
    taps: tuple[int, int]
    nonzero: int
    zero_channels: int
    predicted_ms: tuple[float, float]
    measured_ms: tuple[float, float] | None = None
    kept: str = ''


@dataclass(frozen=True)
class ShrinkReport:
    """What :func:`~mmlk.models.shrink.shrink_kernels` did; ``print`` shows it.

    Attributes:
        layers: One entry per fused mixer, in the order of the network.
    """

    layers: tuple[ShrunkLayer, ...]

    @property
    def shrunk(self) -> tuple[ShrunkLayer, ...]:
        """The layers that were changed."""
        return tuple(layer for layer in self.layers if not layer.kept)

    @property
    def taps(self) -> tuple[int, int]:
        """Weights of all layers before and after."""
        before, after = (sum(layer.taps[index] for layer in self.layers) for index in (0, 1))
        return before, after

    @property
    def predicted_ms(self) -> tuple[float, float]:
        """Predicted milliseconds of all layers before and after."""
        return self._total('predicted_ms')

    @property
    def measured_ms(self) -> tuple[float, float] | None:
        """Measured milliseconds of all layers before and after, if all were measured."""
        if not self.layers or any(layer.measured_ms is None for layer in self.layers):
            return None
        return self._total('measured_ms')

    def _total(self, name: str) -> tuple[float, float]:
        before = sum(getattr(layer, name)[0] for layer in self.layers)
        return before, sum(getattr(layer, name)[bool(not layer.kept)] for layer in self.layers)

    def __str__(self) -> str:
        before, after = self.taps
        lines = [
            f'shrink: {len(self.shrunk)} of {len(self.layers)} large-kernel layers, weights {before:,} -> {after:,}, '
            + _times(self.predicted_ms, self.measured_ms)
        ]
        for layer in self.layers:
            if layer.kept:
                lines.append(f'  {layer.name}: left, {layer.kept}')
                continue
            groups = ', '.join(map(str, layer.groups))
            lines.append(
                f'  {layer.name}: weights {layer.taps[0]:,} -> {layer.taps[1]:,}, '
                f'{_times(layer.predicted_ms, layer.measured_ms)}: {groups}'
            )
        return '\n'.join(lines)


def _times(predicted: tuple[float, float], measured: tuple[float, float] | None) -> str:
    text = f'predicted {predicted[0]:.3g} -> {predicted[1]:.3g} ms'
    return text if measured is None else f'{text}, measured {measured[0]:.3g} -> {measured[1]:.3g} ms'

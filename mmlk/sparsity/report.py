"""What an update of the masks did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerUpdate:
    """What an update did to one layer, in entries of its mask.

    Attributes:
        pruned: Entries switched off, before growth.
        grown: Entries switched on, those that were pruned a moment before included.
        density: Share of active entries afterwards.
    """

    pruned: int
    grown: int
    density: float


@dataclass(frozen=True)
class UpdateReport:
    """What an update of the masks did.

    Attributes:
        step: Optimizer step it followed.
        index: Number of the update, from 1.
        prune_rate: Share of the active entries that was pruned.
        synchronised: Whether the layers that share masks got a common one.
        layers: By name of the parameter.
    """

    step: int
    index: int
    prune_rate: float
    synchronised: bool
    layers: dict[str, LayerUpdate]

    @property
    def pruned(self) -> int:
        """Entries switched off in all layers."""
        return sum(layer.pruned for layer in self.layers.values())

    @property
    def grown(self) -> int:
        """Entries switched on in all layers."""
        return sum(layer.grown for layer in self.layers.values())

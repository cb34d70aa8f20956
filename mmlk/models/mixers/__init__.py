"""Token mixers: every one is a way to write one large depthwise kernel."""

from mmlk.models.mixers.base import BaseMixer
from mmlk.models.mixers.peripheral import KernelPositionEmbedding, PeripheralMixer
from mmlk.models.mixers.sharing_grid import make_sharing_grid

__all__ = ['BaseMixer', 'KernelPositionEmbedding', 'PeripheralMixer', 'make_sharing_grid']

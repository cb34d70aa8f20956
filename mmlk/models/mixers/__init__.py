"""Token mixers: every one is a way to write one large depthwise kernel."""

from mmlk.models.mixers.base import BaseMixer
from mmlk.models.mixers.dense import DenseMixer
from mmlk.models.mixers.dilated import DilatedReparamMixer
from mmlk.models.mixers.peripheral import KernelPositionEmbedding, PeripheralMixer
from mmlk.models.mixers.sharing_grid import make_sharing_grid
from mmlk.models.mixers.shiftwise import ShiftWiseMixer
from mmlk.models.mixers.stripe import StripeMixer

__all__ = [
    'BaseMixer',
    'DenseMixer',
    'DilatedReparamMixer',
    'KernelPositionEmbedding',
    'PeripheralMixer',
    'ShiftWiseMixer',
    'StripeMixer',
    'make_sharing_grid',
]

"""Training loops whose runs go on, after they were cut off, as if nothing had happened."""

from mmlk.engine.loops.epoch_based import EpochBasedTrainLoop
from mmlk.engine.loops.iter_based import IterBasedTrainLoop

__all__ = ['EpochBasedTrainLoop', 'IterBasedTrainLoop']

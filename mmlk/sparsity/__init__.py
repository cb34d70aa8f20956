"""Sparse training: schedule x distribution x score x mask. Importing this package needs torch alone."""

from mmlk.sparsity.distributions import erk, fill_dense, from_scores, uniform
from mmlk.sparsity.masks import generator_for, grow_by_score, grow_random, prune, random_mask
from mmlk.sparsity.report import LayerUpdate, UpdateReport
from mmlk.sparsity.schedules import ConstantPruneRate, CosinePruneRate, UpdateSchedule
from mmlk.sparsity.scores import gradient_magnitude, magnitude, saliency, snip_scores
from mmlk.sparsity.selection import find_path_groups, select_parameters
from mmlk.sparsity.training import SparseTraining
from mmlk.sparsity.units import Elements, Kernels

__all__ = [
    'ConstantPruneRate',
    'CosinePruneRate',
    'Elements',
    'Kernels',
    'LayerUpdate',
    'SparseTraining',
    'UpdateReport',
    'UpdateSchedule',
    'erk',
    'fill_dense',
    'find_path_groups',
    'from_scores',
    'generator_for',
    'gradient_magnitude',
    'grow_by_score',
    'grow_random',
    'magnitude',
    'prune',
    'random_mask',
    'saliency',
    'select_parameters',
    'snip_scores',
    'uniform',
]

"""Effective receptive fields: which pixels of an image the centre of a feature map really looks at.

The protocol is that of RepLKNet (arXiv 2203.06717, section 5); ``docs/erf.md`` says how to read the result.
"""

from mmlk.analysis.erf.area import Area, area_ratios, scale_map
from mmlk.analysis.erf.features import FeatureMaps
from mmlk.analysis.erf.figure import Panel, draw_erf
from mmlk.analysis.erf.images import ImageSource, dataset_images, folder_images, scene_images
from mmlk.analysis.erf.matrix import Erf, contribution_map, effective_receptive_fields
from mmlk.analysis.erf.memory import estimate_bytes, free_bytes

__all__ = [
    'Area',
    'Erf',
    'FeatureMaps',
    'ImageSource',
    'Panel',
    'area_ratios',
    'contribution_map',
    'dataset_images',
    'draw_erf',
    'effective_receptive_fields',
    'estimate_bytes',
    'folder_images',
    'free_bytes',
    'scale_map',
    'scene_images',
]

"""Predictions on one's own pictures, with the models of MMPretrain, MMDetection and MMSegmentation."""

from mmlk.inference.pictures import Picture, PictureError, find_pictures, read_picture
from mmlk.inference.predictor import Predictor
from mmlk.inference.results import Results, make_results

__all__ = [
    'Picture',
    'PictureError',
    'Predictor',
    'Results',
    'find_pictures',
    'make_results',
    'read_picture',
]

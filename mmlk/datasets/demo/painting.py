"""A small canvas that paints a picture and its label map together.

Everything is drawn ``SUPERSAMPLING`` times larger than the result and reduced at the end: colours are averaged, and a
pixel keeps its label only where one class covers most of it. Positions are in *units*, 1/128 of the image side, so one
layout serves every size.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = Sequence[float] | NDArray[np.floating]
Points = Sequence[tuple[float, float]]

UNITS = 128
SUPERSAMPLING = 3
IGNORED = 0
# A pixel of which the largest class covers fewer than this many of its 9 samples has no single true answer.
MIN_COVERAGE = 7


def mix(first: Colour, second: Colour, amount: float | NDArray) -> NDArray:
    """Blend two colours: 0 gives the first, 1 the second."""
    amount = np.asarray(amount, np.float32)
    if amount.ndim:
        amount = amount[..., None]
    return np.asarray(first, np.float32) * (1 - amount) + np.asarray(second, np.float32) * amount


class Canvas:
    """Picture and label map under construction.

    Attributes:
        side: Length of a side in samples (output size times ``SUPERSAMPLING``).
        scale: Samples per unit.
        rgb: Colours (side, side, 3) float32, nominally 0..1.
        label: Class per sample (side, side) uint8.
        number: Count of objects begun when a sample was labelled (side, side) uint8; with ``label`` it tells one car
            from the other.
        x: Horizontal position of every sample column in units (1, side).
        y: Vertical position of every sample row in units (side, 1).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.side = size * SUPERSAMPLING
        self.scale = self.side / UNITS
        self.rgb = np.zeros((self.side, self.side, 3), np.float32)
        self.label = np.full((self.side, self.side), IGNORED, np.uint8)
        self.number = np.zeros((self.side, self.side), np.uint8)
        self._begun = 0
        centres = (np.arange(self.side, dtype=np.float32) + 0.5) / self.scale
        self.x, self.y = centres[None, :], centres[:, None]

    def noise(self, rng: np.random.Generator, width: float, height: float | None = None, octaves: int = 3) -> NDArray:
        """Draw smooth random texture over the whole canvas, mean 0, standard deviation about 1.

        Args:
            rng: Source of the random numbers.
            width: Width of the coarsest blobs in units.
            height: Their height; the width where None. A different one gives stripes.
            octaves: Layers, each twice as fine and 0.6 times as strong as the one before.

        Returns:
            Array (side, side) float32.
        """
        height = width if height is None else height
        total = np.zeros((self.side, self.side), np.float32)
        strength, power = 1.0, 0.0
        for octave in range(octaves):
            cells = [max(2, min(self.side, round(UNITS / extent * 2**octave) + 1)) for extent in (height, width)]
            grid = rng.standard_normal(cells, dtype=np.float32)
            total += strength * cv2.resize(grid, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
            power += strength**2
            strength *= 0.6
        # Interpolation averages neighbours and so halves the variance of white noise, roughly.
        return total * np.float32(1.5 / np.sqrt(power))

    def polygon(self, points: Points) -> NDArray[np.bool_]:
        """Return the samples inside a polygon given in units."""
        mask = np.zeros((self.side, self.side), np.uint8)
        corners = np.round(np.asarray(points, np.float64) * self.scale).astype(np.int32)
        cv2.fillPoly(mask, [corners], 1)
        return mask.view(np.bool_)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float) -> NDArray[np.bool_]:
        """Return the samples inside an upright rectangle given in units."""
        return (self.x >= x0) & (self.x < x1) & (self.y >= y0) & (self.y < y1)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float | None = None) -> NDArray[np.bool_]:
        """Return the samples inside an upright ellipse given in units."""
        radius_y = radius_x if radius_y is None else radius_y
        return ((self.x - x) / radius_x) ** 2 + ((self.y - y) / radius_y) ** 2 <= 1

    def begin_object(self) -> None:
        """Count what is labelled from now on as another object than everything before."""
        self._begun += 1

    def paint(self, mask: NDArray[np.bool_], colour: Colour, class_id: int | None = None) -> None:
        """Cover the samples of a mask.

        Args:
            mask: Samples to cover (side, side) bool.
            colour: One colour (3,), or one per sample, broadcastable to (side, side, 3).
            class_id: Their new class; None leaves the label as it is (a window stays part of its house).
        """
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return
        # Most objects are small: looking at their own box only makes a scene twice as fast.
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        inside = mask[box]
        colour = np.asarray(colour, np.float32)
        self.rgb[box][inside] = colour if colour.ndim == 1 else np.broadcast_to(colour, self.rgb.shape)[box][inside]
        if class_id is not None:
            self.label[box][inside] = class_id
            self.number[box][inside] = self._begun

    def tint(self, amount: NDArray, colour: Colour) -> None:
        """Blend a colour over the picture, ``amount`` (side, side) saying how much of it; labels stay."""
        self.rgb = mix(self.rgb, colour, np.clip(amount, 0, 1))

    def reduced_rgb(self) -> NDArray[np.float32]:
        """Average the samples of every output pixel: (size, size, 3) float32."""
        return cv2.resize(self.rgb, (self.size, self.size), interpolation=cv2.INTER_AREA)

    def reduced_label(self) -> NDArray[np.uint8]:
        """Give every output pixel the class that covers most of it, or ``IGNORED`` where none clearly does."""
        blocks = self.label.reshape(self.size, SUPERSAMPLING, self.size, SUPERSAMPLING)
        result = np.full((self.size, self.size), IGNORED, np.uint8)
        for class_id in np.unique(self.label):
            covered = (blocks == class_id).sum(axis=(1, 3), dtype=np.uint8)
            result[covered >= MIN_COVERAGE] = class_id
        return result

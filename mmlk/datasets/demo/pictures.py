"""Pictures of one object each, to be told apart by shape: colours are drawn without looking at the class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmlk.datasets.demo.categories import Category
from mmlk.datasets.demo.painting import UNITS, Canvas, mix

MIN_SIZE = 48

# Brightness of a thing and how far its tones spread, the same for all classes; the surroundings are brighter.
_TONE, _SPREAD = 0.30, 0.11


def render_picture(seed: int, category: Category, size: int = 64) -> NDArray[np.uint8]:
    """Paint one picture of a class.

    The thing is painted in colours of its own and then recoloured: its tones are brought to the mean and spread that
    all things have, and get hues drawn for the picture. What is left of its class is where it is bright and dark.

    Args:
        seed: Non-negative integer; decides everything but the class.
        category: What to show.
        size: Side of the square picture in pixels.

    Returns:
        RGB picture (size, size, 3) uint8.

    Example:
        >>> render_picture(3, CATEGORIES[0]).shape
        (64, 64, 3)
    """
    # One stream per part: the surroundings of a seed are the same whatever stands in them.
    scenery, thing, camera = (np.random.default_rng([seed, stream]) for stream in range(3))
    canvas = Canvas(size)
    _paint_surroundings(canvas, scenery)
    room = scenery.uniform(72, 108)
    middle = UNITS / 2 + scenery.uniform(-1, 1) * (UNITS - room) / 2
    foot = UNITS / 2 + room / 2 + scenery.uniform(-1, 1) * (UNITS - room) / 2
    hues = _hue(scenery, 0.5), _hue(scenery, 0.5)
    stencil = Canvas(size)
    stencil.rgb[:] = np.nan
    category.paint(stencil, thing, middle, foot, room)
    _recolour(canvas, stencil, hues)
    return _photograph(canvas, camera)


def _hue(rng: np.random.Generator, strength: float) -> NDArray[np.float64]:
    """A colour of mean brightness 1."""
    colour = 1 + strength * rng.uniform(-1, 1, 3)
    return colour / colour.mean()


def _paint_surroundings(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint sky, ground and a few blobs and slabs that mean nothing."""
    above, below = (_hue(rng, 0.25) * rng.uniform(0.6, 0.85) for _ in range(2))
    horizon = rng.uniform(50, 110)
    texture = canvas.noise(rng, rng.uniform(8, 40), rng.uniform(4, 30))
    everywhere = np.zeros((canvas.side, canvas.side), np.float32)
    canvas.paint(everywhere == 0, mix(above, below, 0.4 * canvas.y / UNITS + everywhere))
    canvas.paint(canvas.y >= horizon + 2 * texture, below * (1 + 0.08 * texture)[..., None])
    for index in range(int(rng.integers(3, 7))):
        x, y = rng.uniform(0, UNITS, 2)
        width, height = rng.uniform(4, 18, 2)
        box = canvas.rectangle(x - width, y - height, x + width, y + height)
        blob = canvas.ellipse(x, y, width, height) if rng.random() < 0.5 else box
        # Some are as dark as things: darkness alone must not say how large the thing is.
        brightness = rng.uniform(0.2, 0.5) if index % 2 else rng.uniform(0.5, 0.95)
        canvas.paint(blob, _hue(rng, 0.5) * brightness * (1 + 0.08 * texture)[..., None])


def _recolour(canvas: Canvas, stencil: Canvas, hues: tuple[NDArray, NDArray]) -> None:
    """Copy what was painted into an empty stencil, with tones and hues that do not depend on the class."""
    mask = np.isfinite(stencil.rgb[..., 0])
    tone = stencil.rgb.mean(axis=2)
    tone = np.clip((tone - tone[mask].mean()) / max(tone[mask].std(), 1e-3), -2, 2.5)
    colour = mix(*hues, np.clip(0.5 + tone / 3, 0, 1)) * (_TONE + _SPREAD * tone)[..., None]
    canvas.paint(mask, np.nan_to_num(colour))


def _photograph(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn painted colours into pixels: light, white balance, sensor noise."""
    picture = canvas.reduced_rgb() * rng.uniform(0.8, 1.15) * rng.uniform(0.92, 1.08, 3)
    picture = picture + 0.015 * rng.standard_normal(picture.shape)
    return np.clip(np.round(picture * 255), 0, 255).astype(np.uint8)

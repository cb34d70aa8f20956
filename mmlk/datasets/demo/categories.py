"""The classes of the ImageNet demo: what each picture of it shows, and the numbers that ImageNet gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmlk.datasets.demo import objects
from mmlk.datasets.demo.painting import Canvas, Colour, mix

# Where an object stands: its middle, its foot, and how much room it has, in units (1/128 of the image side).
Paint = Callable[[Canvas, np.random.Generator, float, float, float], None]


@dataclass(frozen=True)
class Category:
    """One class.

    Attributes:
        wnid: Folder name in ImageNet.
        name: Its name.
        index_1k: Position among the 1000 classes of ImageNet-1K.
        index_21k: Position among the 21841 classes of ImageNet-21K (sorted folder names of the release of 2011).
        paint: Paints one into a canvas: generator, middle, foot, room.
    """

    wnid: str
    name: str
    index_1k: int
    index_21k: int
    paint: Paint


def _paint_balloon(canvas: Canvas, rng: np.random.Generator, middle: float, foot: float, room: float) -> None:
    """A hot-air balloon: striped envelope, ropes, basket."""
    radius = 0.36 * room
    centre = foot - room + radius
    first, second = _two_colours(rng)
    stripes = np.floor((canvas.x - middle) / radius * rng.uniform(2, 3.5)) % 2 == 0
    neck = canvas.polygon(
        [
            (middle - 0.9 * radius, centre + 0.43 * radius),
            (middle + 0.9 * radius, centre + 0.43 * radius),
            (middle + 0.2 * radius, centre + 1.7 * radius),
            (middle - 0.2 * radius, centre + 1.7 * radius),
        ]
    )
    shade = 1.05 - 0.35 * np.clip((canvas.x - middle) / radius + 0.3, 0, 1.3) ** 2
    canvas.paint(canvas.ellipse(middle, centre, radius) | neck, mix(first, second, stripes) * shade[..., None])
    for side in (-1, 1):
        rope = [(middle + side * 0.2 * radius, centre + 1.7 * radius), (middle + side * 0.12 * room, foot - 0.1 * room)]
        canvas.paint(canvas.polygon([*rope, (rope[1][0] + 0.8, rope[1][1]), (rope[0][0] + 0.8, rope[0][1])]), (0, 0, 0))
    basket = canvas.rectangle(middle - 0.13 * room, foot - 0.13 * room, middle + 0.13 * room, foot)
    canvas.paint(basket, np.multiply(second, 0.5))


def _paint_umbrella(canvas: Canvas, rng: np.random.Generator, middle: float, foot: float, room: float) -> None:
    """An open umbrella: half a disc with a scalloped edge, stick and crook."""
    radius = 0.5 * room
    top = foot - 0.95 * room
    edge = top + 0.9 * radius
    first, second = _two_colours(rng)
    stick = canvas.rectangle(middle - 0.9, top - 3, middle + 0.9, foot - 0.1 * room)
    crook_x = middle + 0.08 * room
    crook = canvas.ellipse(crook_x, foot - 0.1 * room, 0.08 * room + 0.9) & ~canvas.ellipse(
        crook_x, foot - 0.1 * room, 0.08 * room - 0.9
    )
    canvas.paint(stick | (crook & (canvas.y > foot - 0.1 * room)), (0.15, 0.12, 0.1))
    canopy = canvas.ellipse(middle, edge, radius, 0.9 * radius) & (canvas.y < edge + 0 * canvas.x)
    ribs = int(rng.integers(4, 7))
    for index in range(ribs):
        # Between two ribs the cloth hangs a little higher.
        canopy &= ~canvas.ellipse(middle - radius + (2 * index + 1) * radius / ribs, edge, radius / ribs, 0.1 * room)
    panel = np.floor((canvas.x - middle + radius) / (2 * radius) * ribs) % 2 == 0
    shade = 0.85 + 0.25 * (edge - canvas.y) / radius
    canvas.paint(canopy, mix(first, second, 0.7 * panel) * shade[..., None])


def _paint_clock(canvas: Canvas, rng: np.random.Generator, middle: float, foot: float, room: float) -> None:
    """A round clock: rim, twelve marks, two hands."""
    radius = 0.48 * room
    centre = foot - radius
    first, second = _two_colours(rng)
    canvas.paint(canvas.ellipse(middle, centre, radius), first)
    canvas.paint(canvas.ellipse(middle, centre, 0.86 * radius), second)
    dark = np.multiply(first, 0.3)

    def ray(angle: float, start: float, end: float, width: float) -> NDArray[np.bool_]:
        along = np.asarray([np.sin(angle), -np.cos(angle)])
        across = np.asarray([along[1], -along[0]]) * width / 2
        points = [start * along - across, end * along - across, end * along + across, start * along + across]
        return canvas.polygon([(middle + x * radius, centre + y * radius) for x, y in points])

    for hour in range(12):
        canvas.paint(ray(hour * np.pi / 6, 0.66, 0.8, 0.14 if hour % 3 == 0 else 0.07), dark)
    for length, width in ((0.45, 0.12), (0.68, 0.08)):
        canvas.paint(ray(rng.uniform(0, 2 * np.pi), -0.1, length, width), dark)
    canvas.paint(canvas.ellipse(middle, centre, 0.09 * radius), dark)


def _paint_schooner(canvas: Canvas, rng: np.random.Generator, middle: float, foot: float, room: float) -> None:
    objects.paint_vessel(canvas, rng, middle - 0.5 * room, middle + 0.5 * room, foot, 0.95 * room, 0)


def _paint_beacon(canvas: Canvas, rng: np.random.Generator, middle: float, foot: float, room: float) -> None:
    objects.paint_lighthouse(canvas, rng, middle, foot, 0.38 * room, room)


def _paint_castle(canvas: Canvas, rng: np.random.Generator, middle: float, foot: float, room: float) -> None:
    objects.paint_keep(canvas, rng, middle, foot, 0.55 * room, 0.95 * room)


def _paint_barn(canvas: Canvas, rng: np.random.Generator, middle: float, foot: float, room: float) -> None:
    objects.paint_building(canvas, rng, middle - 0.5 * room, middle + 0.5 * room, foot, 0.85 * room)


def _paint_wagon(canvas: Canvas, rng: np.random.Generator, middle: float, foot: float, room: float) -> None:
    objects.paint_car(canvas, rng, middle - 0.5 * room, foot, room)


def _two_colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """A bright and a deep colour of any hue."""
    return rng.uniform(0.55, 1, 3), rng.uniform(0.1, 0.7, 3)


#: In the order of ImageNet's classes.
CATEGORIES = (
    Category('n02708093', 'analog clock', 409, 4270, _paint_clock),
    Category('n02782093', 'balloon', 417, 4536, _paint_balloon),
    Category('n02793495', 'barn', 425, 4583, _paint_barn),
    Category('n02814533', 'beach wagon', 436, 4686, _paint_wagon),
    Category('n02814860', 'beacon', 437, 4688, _paint_beacon),
    Category('n02980441', 'castle', 483, 5437, _paint_castle),
    Category('n04147183', 'schooner', 780, 10096, _paint_schooner),
    Category('n04507155', 'umbrella', 879, 11565, _paint_umbrella),
)

"""Coastal scenes in which one object can only be named by looking far away.

A sailing vessel lies on one side of the picture, a tower stands on the other. The same vessel is a ``ship`` (open sea)
when that tower is a lighthouse and a ``boat`` (harbour) when it is a stone keep. Nothing within 48 pixels of the vessel
depends on the tower, so no classifier of smaller reach can tell the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmlk.datasets.demo import objects
from mmlk.datasets.demo.painting import UNITS, Canvas, mix
from mmlk.errors import UsageError

MIN_SIZE = 96
# Pixels. JPEG mixes colours inside blocks of 16: 48 leaves the 32 pixels around the vessel alone in the file too.
FAR_GAP = 48

# Label of the vessel by far cue, and every label a scene can hold.
FAR_CLASSES = (objects.BOAT, objects.SHIP)
SCENE_CLASSES = (
    objects.BUILDING,
    objects.SKY,
    objects.TREE,
    objects.ROAD,
    objects.GRASS,
    objects.MOUNTAIN,
    objects.CAR,
    objects.SEA,
    objects.BOAT,
    objects.TOWER,
    objects.SHIP,
)

#: Labels of what can be counted.
THING_CLASSES = (objects.BUILDING, objects.TREE, objects.CAR, objects.BOAT, objects.TOWER, objects.SHIP)

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Thing:
    """One object of a scene.

    Attributes:
        class_id: Its label, one of ``THING_CLASSES``.
        mask: What is seen of it (H * ``SUPERSAMPLING``, W * ``SUPERSAMPLING``) bool, finer than the picture.
    """

    class_id: int
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture with its label map.

    Attributes:
        image: RGB picture (H, W, 3) uint8.
        label: ADE20K label map (H, W) uint8: 0 ignored, else class index plus one.
        object_box: Smallest box (x0, y0, x1, y1) around the vessel's labelled pixels, ends exclusive.
        cue_box: Box that holds everything in which the two looks of the tower differ.
        far_cue: 0 for the keep, 1 for the lighthouse.
        far_class: Label of the vessel, ``FAR_CLASSES[far_cue]``.
        things: What can be counted, from back to front.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    object_box: Box
    cue_box: Box
    far_cue: int
    far_class: int
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class _Mood:
    """Time of day and weather: what colours the sky has and what light falls on the ground."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    light: tuple[float, float, float]
    haze: float


_MOODS = (
    _Mood(zenith=(0.30, 0.52, 0.80), horizon=(0.74, 0.84, 0.91), light=(1.00, 1.00, 0.97), haze=0.35),
    _Mood(zenith=(0.45, 0.60, 0.78), horizon=(0.96, 0.82, 0.62), light=(1.06, 0.95, 0.80), haze=0.40),
    _Mood(zenith=(0.46, 0.44, 0.62), horizon=(0.95, 0.68, 0.60), light=(0.96, 0.84, 0.82), haze=0.45),
    _Mood(zenith=(0.60, 0.64, 0.68), horizon=(0.80, 0.81, 0.81), light=(0.86, 0.89, 0.91), haze=0.55),
    _Mood(zenith=(0.20, 0.32, 0.50), horizon=(0.60, 0.66, 0.74), light=(0.70, 0.76, 0.90), haze=0.40),
)


@dataclass(frozen=True)
class _Layout:
    """Where things are, in units (1/128 of the side), for a vessel on the left; pictures are mirrored afterwards."""

    horizon: float
    shore: float
    road: float
    road_half_width: float
    vessel: tuple[float, float]
    waterline: float
    vessel_height: float
    tower: tuple[float, float]
    tower_base: float
    tower_height: float


def render_scene(seed: int, size: int = 128, far_cue: int | None = None) -> Scene:
    """Paint the scene of a seed.

    Args:
        seed: Non-negative integer; decides everything.
        size: Side of the square picture in pixels, at least 96.
        far_cue: 0 or 1 forces the look of the tower, and so the label of the vessel, and changes nothing else; None
            takes the look drawn from the seed.

    Returns:
        The picture, its label map and where vessel and tower are.

    Raises:
        UsageError: ``size`` is below 96, or ``far_cue`` is not 0, 1 or None.

    Example:
        >>> scene = render_scene(3, far_cue=1)
        >>> scene.image.shape, scene.far_class
        ((128, 128, 3), 104)
    """
    if size < MIN_SIZE:
        raise UsageError(f'A demo scene needs at least {MIN_SIZE} pixels a side to keep its far cue far, got {size}.')
    if far_cue not in (None, 0, 1):
        raise UsageError(f'far_cue must be 0 (keep), 1 (lighthouse) or None (drawn from the seed), got {far_cue!r}.')
    # One stream per part: forcing the cue must not shift the numbers that any other part draws.
    layout_rng, land_rng, vessel_rng, tower_rng, front_rng, camera_rng, cue_rng = (
        np.random.default_rng([seed, stream]) for stream in range(7)
    )
    drawn = int(cue_rng.integers(2))
    far_cue = drawn if far_cue is None else int(far_cue)
    far_class = FAR_CLASSES[far_cue]

    canvas = Canvas(size)
    layout = _draw_layout(layout_rng, size)
    mirrored = layout_rng.random() < 0.5
    mood = _MOODS[int(layout_rng.integers(len(_MOODS)))]

    _paint_sky(canvas, land_rng, layout, mood)
    _paint_mountains(canvas, land_rng, layout, mood)
    _paint_sea(canvas, land_rng, layout, mood)
    _paint_reflection(canvas, layout)
    objects.paint_vessel(canvas, vessel_rng, *layout.vessel, layout.waterline, layout.vessel_height, far_class)
    green = _paint_ground(canvas, land_rng, layout)
    _paint_behind_road(canvas, front_rng, layout, green)
    cue_box = _paint_tower(canvas, tower_rng, layout, far_cue)
    _paint_before_road(canvas, front_rng, layout, green)

    image = _photograph(canvas, camera_rng, mood)
    label = canvas.reduced_label()
    object_box = _bounds(label == far_class)
    things = _things(canvas)
    if mirrored:
        image, label = image[:, ::-1], label[:, ::-1]
        things = tuple(Thing(thing.class_id, thing.mask[:, ::-1]) for thing in things)
        object_box, cue_box = ((size - box[2], box[1], size - box[0], box[3]) for box in (object_box, cue_box))
    return Scene(
        image=np.ascontiguousarray(image),
        label=np.ascontiguousarray(label),
        object_box=object_box,
        cue_box=cue_box,
        far_cue=far_cue,
        far_class=far_class,
        things=things,
    )


def _draw_layout(rng: np.random.Generator, size: int) -> _Layout:
    """Draw the places of vessel, tower, horizon, shore and road."""
    vessel_width, tower_width = rng.uniform(31, 35), rng.uniform(22, 25)
    margin = 2.0
    # The gap is counted in pixels: small pictures spend their free width on it, large ones keep the proportions. One
    # more pixel pays for rounding to the sample grid.
    gap = max((FAR_GAP + 1) * UNITS / size, FAR_GAP)
    if size < UNITS:
        vessel_width, tower_width = 0.82 * vessel_width, 0.82 * tower_width
    slack = UNITS - 2 * margin - vessel_width - tower_width - gap
    left, right = slack * rng.uniform(0, 0.5, 2)
    horizon, shore = rng.uniform(42, 52), rng.uniform(82, 88)
    road_half_width = rng.uniform(7.5, 9)
    return _Layout(
        horizon=horizon,
        shore=shore,
        road=rng.uniform(107, 111),
        road_half_width=road_half_width,
        vessel=(margin + left, margin + left + vessel_width),
        waterline=rng.uniform(max(horizon + 18, 68), shore - 7),
        vessel_height=rng.uniform(36, 42),
        tower=(UNITS - margin - right - tower_width, UNITS - margin - right),
        tower_base=rng.uniform(shore + 6, shore + 9),
        tower_height=rng.uniform(54, 64),
    )


def _paint_sky(canvas: Canvas, rng: np.random.Generator, layout: _Layout, mood: _Mood) -> None:
    depth = np.clip(canvas.y / layout.horizon, 0, 1) ** rng.uniform(0.8, 1.6)
    sky = mix(mood.zenith, mood.horizon, depth)
    canvas.paint(canvas.y < layout.horizon + 4 + 0 * canvas.x, sky, objects.SKY)
    clouds = canvas.noise(rng, rng.uniform(28, 50), rng.uniform(9, 16), octaves=4)
    cover = np.clip((clouds - rng.uniform(-0.2, 0.9)) * 0.9, 0, 1) * rng.uniform(0.5, 0.9)
    canvas.tint(cover, mix((1, 1, 1), mood.horizon, 0.35))


def _paint_mountains(canvas: Canvas, rng: np.random.Generator, layout: _Layout, mood: _Mood) -> None:
    rocks = [(0.40, 0.42, 0.48), (0.38, 0.42, 0.34), (0.48, 0.42, 0.38), (0.36, 0.33, 0.42)]
    rock = np.asarray(rocks[int(rng.integers(len(rocks)))])
    rough = canvas.noise(rng, 9, 7, octaves=4)
    for distance in (1.0, 0.0):
        ridge = canvas.noise(rng, 38, octaves=5)[:1]
        height = (13 if distance else 8) + 4.5 * ridge
        top = layout.horizon - np.clip(height, 3.5, 22)
        mask = (canvas.y > top) & (canvas.y < layout.horizon + 2)
        # Slopes face left or right: the derivative of the ridge lights them.
        slope = np.gradient(ridge[0])[None, :] * canvas.scale * 3
        shade = np.clip(0.95 - 0.22 * np.tanh(slope) + 0.16 * rough, 0.4, 1.5)
        colour = mix(rock * shade[..., None], mood.horizon, mood.haze * (0.45 + 0.4 * distance))
        canvas.paint(mask, colour, objects.MOUNTAIN)
        if distance and rng.random() < 0.4:
            snow = np.clip((layout.horizon - 15 + 1.5 * rough - canvas.y) / 2, 0, 1) * mask
            canvas.tint(0.75 * snow, (0.95, 0.96, 0.98))


def _paint_sea(canvas: Canvas, rng: np.random.Generator, layout: _Layout, mood: _Mood) -> None:
    mask = canvas.y >= layout.horizon + 0 * canvas.x
    nearness = np.clip((canvas.y - layout.horizon) / (layout.shore - layout.horizon), 0, 1)
    deep = np.asarray(mood.zenith) * rng.uniform(0.7, 1.1) * (0.92, 1.0, rng.uniform(0.88, 1.04))
    water = mix(mix(mood.horizon, deep, 0.45), deep, nearness)
    waves = canvas.noise(rng, 12, 2.2, octaves=2)
    canvas.paint(mask, water * (1 + 0.11 * waves * (0.4 + nearness))[..., None], objects.SEA)
    crests = np.clip(waves - 1.25, 0, 1) * mask * (0.3 + 0.7 * nearness)
    canvas.tint(0.8 * crests, (1, 1, 1))


def _paint_reflection(canvas: Canvas, layout: _Layout) -> None:
    """Darken the water below the vessel; it stays sea."""
    left, right = layout.vessel
    across = np.clip(1 - np.abs(canvas.x - (left + right) / 2) / (0.52 * (right - left)), 0, 1)
    below = canvas.y - layout.waterline
    fade = np.where((below > -2) & (below < 9), np.clip(1 - below / 9, 0, 1), 0)
    ripples = 0.75 + 0.25 * np.sin(canvas.y * 2.6)
    canvas.tint(0.55 * np.sqrt(across) * fade * ripples, (0.10, 0.13, 0.16))


def _paint_ground(canvas: Canvas, rng: np.random.Generator, layout: _Layout) -> tuple[NDArray, NDArray]:
    """Paint shore, meadow and road; return leaf texture and mean colour for the trees."""
    bend = canvas.noise(rng, 60, octaves=2)[:1]
    shore = layout.shore + 1.4 * bend
    greens = [(0.30, 0.42, 0.16), (0.42, 0.46, 0.18), (0.22, 0.36, 0.18), (0.52, 0.45, 0.20)]
    meadow, crown = (np.asarray(greens[int(rng.integers(len(greens)))]) * rng.uniform(0.8, 1.15) for _ in range(2))
    blades = canvas.noise(rng, 1.6, 5, octaves=2)
    patches = canvas.noise(rng, 30, 10, octaves=2)
    foam = (canvas.y > shore - 1.6) & (canvas.y <= shore)
    canvas.tint(0.6 * foam, (0.95, 0.96, 0.95))
    light = np.clip(0.95 + 0.13 * blades + 0.10 * patches, 0.4, 1.6)
    canvas.paint(canvas.y > shore, meadow * light[..., None], objects.GRASS)
    sand = (canvas.y > shore) & (canvas.y < shore + 1.5)
    canvas.tint(0.7 * sand, (0.78, 0.70, 0.54))

    tar = np.asarray([(0.42, 0.42, 0.44), (0.36, 0.35, 0.36), (0.55, 0.50, 0.44)][int(rng.integers(3))])
    middle = layout.road + 2.2 * np.sin((canvas.x + rng.uniform(0, UNITS)) / 24)
    across = (canvas.y - middle) / layout.road_half_width
    grain = canvas.noise(rng, 1.2, octaves=1)
    canvas.paint(np.abs(across) < 1, tar * (1 + 0.07 * grain + 0.04 * patches)[..., None], objects.ROAD)
    edges = np.abs(np.abs(across) - 0.86) < 0.05
    dashes = (np.abs(across) < 0.05) & ((canvas.x + rng.uniform(0, 16)) % 16 < 9)
    canvas.tint(0.75 * (edges | dashes), (0.95, 0.93, 0.85))
    return canvas.noise(rng, 3.2, octaves=2), crown


def _paint_behind_road(
    canvas: Canvas, rng: np.random.Generator, layout: _Layout, green: tuple[NDArray, NDArray]
) -> None:
    """Paint house and tree between vessel and tower, clear of both."""
    leaves, colour = green
    left, right = layout.vessel[1] + 2.5, layout.tower[0] - 1.5
    base = layout.shore + rng.uniform(7, 10)
    radius = rng.uniform(8.5, 10.5)
    house_left = rng.random() < 0.5
    width = min(right - left - 1.7 * radius, rng.uniform(27, 34))
    house = (left, left + width) if house_left else (right - width, right)
    tree = house[1] + 0.75 * radius if house_left else house[0] - 0.75 * radius
    objects.paint_tree(canvas, rng, leaves, colour, tree, base, rng.uniform(30, 38), radius)
    objects.paint_building(canvas, rng, *house, base, rng.uniform(27, 34))


def _paint_tower(canvas: Canvas, rng: np.random.Generator, layout: _Layout, far_cue: int) -> Box:
    """Paint the tower and return the pixels that it may change."""
    left, right = layout.tower
    paint = objects.paint_lighthouse if far_cue else objects.paint_keep
    paint(canvas, rng, (left + right) / 2, layout.tower_base, right - left, layout.tower_height)
    pixels = canvas.size / UNITS
    top, bottom = layout.tower_base - layout.tower_height, layout.tower_base
    # Polygon corners are rounded to samples and filled inclusively: one more pixel on every side.
    return (
        max(0, int(np.floor(left * pixels)) - 1),
        max(0, int(np.floor(top * pixels)) - 1),
        min(canvas.size, int(np.ceil(right * pixels)) + 1),
        min(canvas.size, int(np.ceil(bottom * pixels)) + 1),
    )


def _paint_before_road(
    canvas: Canvas, rng: np.random.Generator, layout: _Layout, green: tuple[NDArray, NDArray]
) -> None:
    """Paint cars on the road and a tree that reaches into the foreground."""
    leaves, colour = green
    tree_left = rng.random() < 0.5
    # Two cars share what the tree leaves of the road, each somewhere in its own half.
    left, right = (20, UNITS - 2) if tree_left else (2, UNITS - 20)
    for start in (left, (left + right) / 2):
        length = rng.uniform(36, 42)
        spare = (right - left) / 2 - length
        objects.paint_car(canvas, rng, start + spare * rng.random(), layout.road + rng.uniform(0, 3), length)
    x = rng.uniform(4, 14)
    objects.paint_tree(
        canvas,
        rng,
        leaves,
        np.multiply(colour, 0.9),
        x if tree_left else UNITS - x,
        140,
        rng.uniform(42, 46),
        rng.uniform(14, 17),
    )


def _photograph(canvas: Canvas, rng: np.random.Generator, mood: _Mood) -> NDArray[np.uint8]:
    """Turn painted colours into pixels: light, white balance, contrast, vignette and sensor noise.

    Every step looks at one pixel at a time. One that used a statistic of the picture would carry the far cue to the
    vessel.
    """
    picture = canvas.reduced_rgb() * np.asarray(mood.light, np.float32)
    picture *= (rng.uniform(0.72, 1.15) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    picture = 0.45 + (picture - 0.45) * np.float32(rng.uniform(0.85, 1.15))
    steps = np.linspace(-1, 1, canvas.size, dtype=np.float32)
    picture *= (1 - 0.09 * (steps[:, None] ** 2 + steps[None, :] ** 2))[..., None]
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(0.012)
    return np.clip(np.round(picture * 255), 0, 255).astype(np.uint8)


def _things(canvas: Canvas) -> tuple[Thing, ...]:
    """Take a finished canvas apart into its objects, leaving out those hidden completely."""
    # Ground painted after an object carries the object's number, so the label decides too.
    is_thing = np.isin(canvas.label, THING_CLASSES)
    pairs = np.unique(np.stack([canvas.number[is_thing], canvas.label[is_thing]], axis=1), axis=0)
    return tuple(
        Thing(int(class_id), (canvas.number == number) & (canvas.label == class_id)) for number, class_id in pairs
    )


def _bounds(mask: NDArray[np.bool_]) -> Box:
    """Smallest box around the true pixels of a mask, ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

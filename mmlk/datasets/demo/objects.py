"""The things that stand in a demo scene: vessel, towers, house, trees, car.

Every function paints one object into a :class:`Canvas` at a place given in units (1/128 of the image side).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmlk.datasets.demo.painting import Canvas, Colour, mix

# Values of an ADE20K label map: position in mmseg's ``ADE20KDataset.METAINFO['classes']`` plus one.
BUILDING, SKY, TREE, ROAD, GRASS = 2, 3, 5, 7, 10
MOUNTAIN, CAR, SEA, BOAT, TOWER, SHIP = 17, 21, 27, 77, 85, 104

WHITE = (0.93, 0.92, 0.88)
DARK = (0.09, 0.09, 0.11)


def paint_vessel(
    canvas: Canvas, rng: np.random.Generator, left: float, right: float, waterline: float, height: float, class_id: int
) -> None:
    """Paint a two-sail vessel heading left or right.

    Args:
        canvas: Where to paint.
        rng: Source of colours and proportions.
        left: Left end of the hull.
        right: Right end of the hull.
        waterline: Vertical position of the water at the hull.
        height: From the waterline to the tip of the mast.
        class_id: Label of hull and sails.
    """
    canvas.begin_object()
    heading = 1 if rng.random() < 0.5 else -1
    middle, half = (left + right) / 2, (right - left) / 2
    hull_height = 0.24 * height

    def at(along: float, above: float) -> tuple[float, float]:
        """Map hull coordinates (-1 stern .. 1 bow, height above the water as a fraction) to the canvas."""
        return middle + heading * along * half, waterline - above * height

    hulls = [(0.20, 0.12, 0.08), (0.12, 0.17, 0.30), (0.45, 0.10, 0.09), (0.10, 0.25, 0.22), (0.85, 0.83, 0.80)]
    hull = _pick(rng, hulls)
    sail = _pick(rng, [WHITE, (0.95, 0.86, 0.68), (0.86, 0.42, 0.20), (0.90, 0.80, 0.74)])

    mast = canvas.polygon([at(-0.02, 0.2), at(0.05, 0.2), at(0.05, 1), at(-0.02, 1)])
    canvas.paint(mast, (0.28, 0.2, 0.14), class_id)
    shade = 0.94 + 0.08 * np.sin((canvas.x - left) * 1.3)
    main_sail = canvas.polygon([at(-0.03, 0.97), at(-0.03, 0.27), at(-0.92, 0.27), at(-0.66, 0.68)])
    canvas.paint(main_sail, mix((0, 0, 0), sail, shade), class_id)
    fore_sail = canvas.polygon([at(0.06, 0.92), at(0.06, 0.25), at(0.95, 0.27), at(0.62, 0.62)])
    canvas.paint(fore_sail, mix((0, 0, 0), sail, 0.88 * shade), class_id)

    body = canvas.polygon([at(-1, 0.27), at(-0.82, 0), at(0.62, 0), at(1, 0.27)])
    light_to_dark = np.clip((canvas.y - waterline + hull_height) / hull_height, 0, 1)
    canvas.paint(body, mix(hull, np.multiply(hull, 0.55), light_to_dark), class_id)
    stripe = body & canvas.rectangle(left, waterline - 0.21 * height, right, waterline - 0.15 * height)
    canvas.paint(stripe, mix(sail, hull, 0.2))
    cabin = canvas.polygon([at(-0.55, 0.26), at(-0.5, 0.36), at(-0.18, 0.36), at(-0.15, 0.26)])
    canvas.paint(cabin, np.multiply(WHITE, 0.85), class_id)


def paint_lighthouse(
    canvas: Canvas, rng: np.random.Generator, middle: float, base: float, width: float, height: float
) -> None:
    """Paint a tall white lighthouse with coloured bands: the far cue that makes the vessel a ship.

    Args:
        canvas: Where to paint.
        rng: Source of colours and of the number of bands.
        middle: Horizontal position of its axis.
        base: Vertical position of its foot.
        width: Width of the foot; nothing is painted outside it.
        height: From foot to the tip of the dome.
    """
    canvas.begin_object()
    half = width / 2
    top, lamp = base - 0.76 * height, base - 0.9 * height
    narrow = 0.58 * half
    shaft = canvas.polygon(
        [(middle - half, base), (middle - narrow, top), (middle + narrow, top), (middle + half, base)]
    )
    band = _pick(rng, [(0.78, 0.10, 0.10), (0.82, 0.14, 0.08), (0.70, 0.06, 0.14)])
    bands = int(rng.integers(3, 5))
    along = (base - canvas.y) / (base - top)
    is_band = np.floor(along * 2 * bands) % 2 == 1
    round_shade = _cylinder(canvas, middle, half)
    canvas.paint(shaft, mix(WHITE, band, is_band) * round_shade[..., None], TOWER)
    for floor in (0.30, 0.62):
        y = base - floor * (base - top)
        canvas.paint(canvas.rectangle(middle - 1.1, y - 2.2, middle + 1.1, y + 2.2), DARK)
    canvas.paint(canvas.rectangle(middle - 2.2, base - 6, middle + 2.2, base), (0.25, 0.16, 0.12))

    lantern = canvas.rectangle(middle - 0.42 * half, lamp, middle + 0.42 * half, top)
    canvas.paint(lantern, (0.98, 0.90, 0.55), TOWER)
    for bar in (-0.42, 0, 0.42):
        canvas.paint(canvas.rectangle(middle + bar * half - 0.4, lamp, middle + bar * half + 0.4, top), DARK, TOWER)
    gallery = canvas.rectangle(middle - 0.8 * half, top - 1.2, middle + 0.8 * half, top + 1.2)
    canvas.paint(gallery, np.multiply(band, 0.6), TOWER)
    dome = canvas.polygon([(middle - 0.55 * half, lamp), (middle, base - height), (middle + 0.55 * half, lamp)])
    canvas.paint(dome, np.multiply(band, 0.8), TOWER)


def paint_keep(
    canvas: Canvas, rng: np.random.Generator, middle: float, base: float, width: float, height: float
) -> None:
    """Paint a square, dark stone keep: the far cue that makes the vessel a boat. Arguments as the lighthouse's."""
    canvas.begin_object()
    half = width / 2
    crown = base - height
    stone = _pick(rng, [(0.27, 0.26, 0.27), (0.30, 0.25, 0.21), (0.22, 0.24, 0.28)])
    row = np.floor((base - canvas.y) / 3)
    # Every second row of stones is shifted by half a stone, as a mason lays them.
    column = np.floor((canvas.x - middle) / 5 + 0.5 * (row % 2))
    tone = 0.9 + 0.22 * _hash_noise(row, column)
    mortar = ((base - canvas.y) % 3 < 0.5) | (((canvas.x - middle) / 5 + 0.5 * (row % 2)) % 1 < 0.12)
    light = tone * np.where(mortar, 0.65, 1) * _cylinder(canvas, middle, half, 0.25)
    wall = np.asarray(stone, np.float32) * light[..., None]

    body = canvas.rectangle(middle - 0.86 * half, crown + 9, middle + 0.86 * half, base)
    battlement = canvas.rectangle(middle - half, crown + 4, middle + half, crown + 11)
    for merlon in (-1, -0.2, 0.6):
        battlement |= canvas.rectangle(middle + merlon * half, crown, middle + (merlon + 0.4) * half, crown + 5)
    canvas.paint(body | battlement, wall, TOWER)
    canvas.paint(canvas.rectangle(middle - half, crown + 10.4, middle + half, crown + 11), np.multiply(stone, 0.45))
    for x, floor in ((-0.4, 0.62), (0.4, 0.62), (0, 0.38)):
        y = base - floor * height
        canvas.paint(canvas.rectangle(middle + x * half - 0.9, y - 3, middle + x * half + 0.9, y + 3), DARK)
    gate = canvas.rectangle(middle - 2.8, base - 6, middle + 2.8, base) | canvas.ellipse(middle, base - 6, 2.8)
    canvas.paint(gate, DARK)


def paint_building(
    canvas: Canvas, rng: np.random.Generator, left: float, right: float, base: float, height: float
) -> None:
    """Paint a gabled house with a grid of windows between ``left`` and ``right``, standing on ``base``."""
    canvas.begin_object()
    wall = _pick(rng, [WHITE, (0.80, 0.70, 0.55), (0.58, 0.32, 0.24), (0.55, 0.58, 0.62), (0.72, 0.52, 0.40)])
    roof = _pick(rng, [(0.45, 0.18, 0.13), (0.25, 0.26, 0.30), (0.36, 0.27, 0.20)])
    eaves, ridge = base - 0.66 * height, base - height
    boards = 0.96 + 0.06 * np.sign(np.sin(canvas.y * 3.1)) - 0.12 * (canvas.x - left) / (right - left)
    canvas.paint(canvas.rectangle(left + 1.5, eaves, right - 1.5, base), mix((0, 0, 0), wall, boards), BUILDING)
    inset = rng.uniform(3, 6)
    tiles = 0.85 + 0.2 * (np.sin(canvas.y * 4.2) > 0)
    gable = canvas.polygon([(left, eaves + 1), (left + inset, ridge), (right - inset, ridge), (right, eaves + 1)])
    canvas.paint(gable, mix((0, 0, 0), roof, tiles), BUILDING)
    chimney = left + inset + 3 if rng.random() < 0.5 else right - inset - 6
    canvas.paint(canvas.rectangle(chimney, ridge - 3, chimney + 3, ridge + 3), np.multiply(roof, 0.8), BUILDING)

    lit = (0.95, 0.80, 0.45) if rng.random() < 0.4 else (0.16, 0.22, 0.30)
    columns = max(2, round((right - left) / 9))
    for index in range(columns):
        x = left + (index + 0.5) * (right - left) / columns
        for floor in (0.42, 0.14):
            y = base - floor * height
            if floor == 0.14 and index == columns // 2:
                canvas.paint(canvas.rectangle(x - 2, y - 3.5, x + 2, base), np.multiply(roof, 0.7))
                continue
            canvas.paint(canvas.rectangle(x - 2.2, y - 2.8, x + 2.2, y + 2.8), WHITE)
            canvas.paint(canvas.rectangle(x - 1.6, y - 2.2, x + 1.6, y + 2.2), lit)
            canvas.paint(canvas.rectangle(x - 0.25, y - 2.2, x + 0.25, y + 2.2), WHITE)


def paint_tree(
    canvas: Canvas,
    rng: np.random.Generator,
    leaves: NDArray,
    colour: Colour,
    x: float,
    base: float,
    height: float,
    radius: float,
) -> None:
    """Paint a broad-leaved tree.

    Args:
        canvas: Where to paint.
        rng: Source of the crown's shape.
        leaves: Leaf texture (side, side), mean 0.
        colour: Mean colour of the crown.
        x: Horizontal position of the trunk.
        base: Vertical position of its foot.
        height: From the foot to the top of the crown.
        radius: Half the width of the crown.
    """
    canvas.begin_object()
    centre = base - height + 1.1 * radius
    canvas.paint(canvas.rectangle(x - 1.5, centre, x + 1.5, base), (0.22, 0.15, 0.10), TREE)
    crown = canvas.ellipse(x, centre, 0.7 * radius, radius)
    for angle in rng.uniform(0, 2 * np.pi, 7):
        distance = 0.42 * radius
        crown |= canvas.ellipse(x + distance * np.cos(angle), centre + distance * np.sin(angle), 0.58 * radius)
    # Clumps of leaves break the outline and are lit from above.
    clumps = ((canvas.x - x) ** 2 + (canvas.y - centre) ** 2) / radius**2
    crown &= clumps + 0.1 * leaves < 1.05
    light = 0.95 - 0.38 * (canvas.y - centre) / radius + 0.30 * leaves
    canvas.paint(crown, np.asarray(colour, np.float32) * np.clip(light, 0.3, 1.7)[..., None], TREE)


def paint_car(canvas: Canvas, rng: np.random.Generator, left: float, base: float, length: float) -> None:
    """Paint a car seen from the side, ``length`` long, its wheels standing on ``base``."""
    canvas.begin_object()
    bodies = [(0.72, 0.12, 0.10), (0.14, 0.32, 0.66), (0.88, 0.88, 0.86), (0.86, 0.64, 0.12), (0.16, 0.50, 0.42)]
    body = _pick(rng, bodies)
    heading = 1 if rng.random() < 0.5 else -1
    height = 0.46 * length
    middle = left + length / 2

    def at(along: float, above: float) -> tuple[float, float]:
        return middle + heading * along * length / 2, base - above * height

    outline = [(-1, 0.15), (-0.98, 0.55), (-0.62, 0.6), (-0.42, 1), (0.25, 1), (0.52, 0.6), (0.95, 0.5), (1, 0.15)]
    shade = 1.15 - 0.45 * (canvas.y - base + height) / height
    canvas.paint(canvas.polygon([at(*point) for point in outline]), mix((0, 0, 0), body, shade), CAR)
    rear_window = [(-0.52, 0.6), (-0.36, 0.92), (-0.1, 0.92), (-0.1, 0.6)]
    front_window = [(-0.02, 0.6), (-0.02, 0.92), (0.2, 0.92), (0.42, 0.6)]
    for glass in (rear_window, front_window):
        canvas.paint(canvas.polygon([at(*point) for point in glass]), (0.35, 0.45, 0.52))
    for wheel in (-0.58, 0.58):
        x, y = at(wheel, 0.18)
        canvas.paint(canvas.ellipse(x, y, 0.10 * length), DARK, CAR)
        canvas.paint(canvas.ellipse(x, y, 0.045 * length), (0.6, 0.6, 0.62))
    canvas.paint(canvas.ellipse(*at(0.93, 0.42), 0.03 * length), (0.98, 0.92, 0.7))


def _pick(rng: np.random.Generator, colours: list[Colour]) -> NDArray[np.float32]:
    """Choose one of the colours and vary it a little."""
    chosen = np.asarray(colours[int(rng.integers(len(colours)))], np.float32)
    return np.clip(chosen + rng.normal(0, 0.03, 3), 0.03, 1).astype(np.float32)


def _cylinder(canvas: Canvas, middle: float, half: float, depth: float = 0.45) -> NDArray[np.float32]:
    """Brightness (1, side) of a round wall lit from the left."""
    across = np.clip((canvas.x - middle) / half, -1, 1)
    return 1.02 - depth * np.clip(across + 0.35, 0, None) ** 2


def _hash_noise(row: NDArray, column: NDArray) -> NDArray:
    """Give every (row, column) of a wall its own value in -0.5..0.5, the same in every picture."""
    return (np.sin(row * 12.9898 + column * 78.233) * 43758.5453) % 1 - 0.5

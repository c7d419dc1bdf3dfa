"""Backgrounds: one wide view per camera, of which every image shows a window."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reid_core.data.synthetic.scene import Camera, Place
from reid_core.data.synthetic.sections import FloatArray

__all__ = ["backdrop"]

# A view is this many image heights wide and high; windows are cut from it at random places.
_WIDTH, _HEIGHT = 5.0, 1.16
_Pixel = tuple[int, int, int]


@lru_cache(maxsize=64)
def backdrop(camera: Camera, height: int) -> FloatArray:
    """Return the whole view of a camera.

    Args:
        camera: Whose place, seed and pitch make the view.
        height: Height of the images that are cut from it, pixels.

    Returns:
        (1.16 height, 5 height, 3) float32 in [0, 1]; read only.
    """
    rng = np.random.default_rng(camera.seed)
    rows, cols = round(_HEIGHT * height), round(_WIDTH * height)
    # The more a camera looks down, the more ground it sees.
    horizon = max(round(rows * (0.72 - 0.9 * camera.pitch)), rows // 8)
    image = Image.new("RGB", (cols, rows))
    draw = ImageDraw.Draw(image)
    _draw_wall(draw, rng, camera.place, cols, horizon)
    _draw_floor(draw, rng, camera.place, cols, rows, horizon)
    image = image.filter(ImageFilter.GaussianBlur(height / 80.0))
    view = np.asarray(image, np.float32) / np.float32(255.0)
    grain = 0.05 * _cloud(rng, rows, cols, height // 5)
    grain += 0.03 * _cloud(rng, rows, cols, height // 24)
    if camera.place == "park":
        leaves = _cloud(rng, horizon, cols, height // 14)[:, :, None]
        view[:horizon] *= 1.0 + 0.22 * leaves
    view = np.clip(view * (1.0 + grain[:, :, None]), 0.0, 1.0)
    # Haze: people stand out from their background.
    grey = view.mean(axis=2, keepdims=True)
    hazy: FloatArray = (0.30 + 0.54 * (grey + 0.7 * (view - grey))).astype(np.float32)
    hazy.setflags(write=False)
    return hazy


def _draw_wall(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, place: Place, cols: int, horizon: int
) -> None:
    base = _color(rng, *_WALLS[place])
    draw.rectangle((0, 0, cols, horizon), fill=base)
    unit = max(horizon // 8, 2)
    match place:
        case "street" | "parking":
            _draw_windows(draw, rng, cols, horizon, base)
        case "brick" | "station":
            wide, high = (unit // 2 * 2, max(unit // 2, 2)) if place == "brick" else (unit, unit)
            _draw_bricks(draw, rng, cols, horizon, base, (wide, high))
        case "corridor" | "glass":
            for x in range(int(rng.integers(unit)), cols, 3 * unit):
                draw.rectangle((x, 0, x + 2 * unit, horizon), fill=_vary(rng, base, 0.22))
                draw.line((x, 0, x, horizon), fill=_scaled(base, 0.6), width=max(unit // 8, 1))
        case "shop":
            for y in range(0, horizon, 2 * unit):
                x = 0
                while x < cols:
                    wide = int(rng.integers(unit // 2 + 1, 2 * unit))
                    top = y + int(rng.integers(0, unit))
                    draw.rectangle(
                        (x, top, x + wide - 2, y + 2 * unit), fill=_color(rng, (0, 1), 0.35, 0.7)
                    )
                    x += wide
                draw.rectangle((0, y + 2 * unit - unit // 4, cols, y + 2 * unit), fill=base)
        case "park":
            for _ in range(60):
                x, y = int(rng.integers(cols)), int(rng.integers(horizon))
                size = int(rng.integers(unit, 3 * unit))
                draw.ellipse((x - size, y - size, x + size, y + size), fill=_vary(rng, base, 0.35))
            for _ in range(6):
                x = int(rng.integers(cols))
                draw.rectangle((x, 0, x + unit // 2, horizon), fill=(74, 56, 42))


def _draw_windows(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, cols: int, horizon: int, base: _Pixel
) -> None:
    """Draw fronts of houses with windows and doors."""
    x = 0
    while x < cols:
        wide = int(rng.integers(horizon // 2, horizon + 1))
        draw.rectangle((x, 0, x + wide, horizon), fill=_vary(rng, base, 0.30))
        pane = max(wide // 6, 3)
        glass = _color(rng, (0.52, 0.66), 0.25, float(rng.uniform(0.25, 0.7)))
        for left in range(x + pane, x + wide - pane, 2 * pane):
            for top in range(pane // 2, horizon - 2 * pane, 2 * pane):
                draw.rectangle((left, top, left + pane, top + 3 * pane // 2), fill=glass)
        door = x + int(rng.integers(pane, 4 * pane))
        draw.rectangle(
            (door, horizon - 3 * pane, door + 3 * pane // 2, horizon),
            fill=_color(rng, (0, 1), 0.5, 0.4),
        )
        x += wide


def _draw_bricks(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    cols: int,
    horizon: int,
    base: _Pixel,
    size: tuple[int, int],
) -> None:
    wide, high = size
    for row, y in enumerate(range(0, horizon, high)):
        for x in range(-wide if row % 2 else -wide // 2, cols, wide):
            draw.rectangle((x, y, x + wide - 2, y + high - 2), fill=_vary(rng, base, 0.18))


def _draw_floor(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    place: Place,
    cols: int,
    rows: int,
    horizon: int,
) -> None:
    base = _color(rng, *_FLOORS[place])
    depth = rows - horizon
    for y in range(horizon, rows):
        draw.line((0, y, cols, y), fill=_scaled(base, 0.85 + 0.3 * (y - horizon) / depth))
    joint = _scaled(base, 0.78)
    # Joints of the paving run towards a vanishing point and get denser near the wall.
    if place != "park":
        for i in range(-20, 21):
            draw.line((cols / 2 + i * depth * 0.4, horizon, cols / 2 + i * depth, rows), fill=joint)
        for i in range(1, 7):
            y = horizon + int(depth * (i / 7) ** 1.7)
            draw.line((0, y, cols, y), fill=joint)
    if place in ("station", "parking"):
        y = horizon + int(depth * rng.uniform(0.2, 0.5))
        draw.rectangle((0, y, cols, y + max(depth // 12, 2)), fill=(214, 182, 60))
    draw.line((0, horizon, cols, horizon), fill=_scaled(base, 0.5), width=max(depth // 24, 1))


# Hue range, saturation and value of walls and floors.
_WALLS: dict[Place, tuple[tuple[float, float], float, float]] = {
    "street": ((0.05, 0.14), 0.22, 0.66),
    "park": ((0.22, 0.34), 0.38, 0.48),
    "corridor": ((0.08, 0.60), 0.08, 0.78),
    "shop": ((0.05, 0.12), 0.30, 0.45),
    "station": ((0.45, 0.62), 0.15, 0.70),
    "brick": ((0.01, 0.06), 0.45, 0.52),
    "glass": ((0.52, 0.60), 0.25, 0.68),
    "parking": ((0.0, 1.0), 0.05, 0.48),
}
_FLOORS: dict[Place, tuple[tuple[float, float], float, float]] = {
    "street": ((0.0, 1.0), 0.04, 0.58),
    "park": ((0.10, 0.14), 0.28, 0.60),
    "corridor": ((0.08, 0.12), 0.14, 0.66),
    "shop": ((0.0, 1.0), 0.05, 0.76),
    "station": ((0.0, 1.0), 0.05, 0.45),
    "brick": ((0.0, 1.0), 0.06, 0.52),
    "glass": ((0.0, 1.0), 0.05, 0.72),
    "parking": ((0.0, 1.0), 0.04, 0.36),
}


def _color(
    rng: np.random.Generator, hue: tuple[float, float], saturation: float, value: float
) -> _Pixel:
    red, green, blue = colorsys.hsv_to_rgb(
        float(rng.uniform(*hue)),
        saturation * float(rng.uniform(0.7, 1.3)),
        min(value * float(rng.uniform(0.85, 1.15)), 1.0),
    )
    return round(red * 255), round(green * 255), round(blue * 255)


def _vary(rng: np.random.Generator, color: _Pixel, amount: float) -> _Pixel:
    return _scaled(color, 1.0 + float(rng.uniform(-amount, amount)))


def _scaled(color: _Pixel, factor: float) -> _Pixel:
    red, green, blue = (min(round(value * factor), 255) for value in color)
    return red, green, blue


def _cloud(rng: np.random.Generator, rows: int, cols: int, cell: int) -> FloatArray:
    """Return smooth noise of unit size with features of ``cell`` pixels."""
    small = rng.standard_normal((rows // max(cell, 1) + 2, cols // max(cell, 1) + 2))
    image = Image.fromarray(small.astype(np.float32))
    return np.asarray(image.resize((cols, rows), Image.Resampling.BICUBIC), np.float32)

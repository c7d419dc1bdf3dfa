"""Textures of fabrics on tubes and ellipsoids."""

from __future__ import annotations

import numpy as np

from reid_core.data.synthetic.people import Color
from reid_core.data.synthetic.raster import LocalPaint, Paint
from reid_core.data.synthetic.sections import BoolArray, FloatArray
from reid_core.data.synthetic.wardrobe import Fabric

__all__ = ["fabric_paint", "flat_paint", "on_ellipsoid", "open_front"]

# Surface metres per radian that patterns assume around a body part.
_GIRTH = 0.14


def flat_paint(color: Color) -> Paint:
    """Return a texture of one colour."""
    base = np.asarray(color, np.float32)

    def paint(angle: FloatArray, distance: FloatArray) -> FloatArray:
        return base

    return paint


def fabric_paint(fabric: Fabric, *, girth: float = _GIRTH, with_print: bool = False) -> Paint:
    """Return the texture of a garment.

    Args:
        fabric: Material.
        girth: Metres of surface per radian, so that patterns keep their size on thin limbs.
        with_print: Whether this piece carries the print of a ``logo`` fabric (the chest does).
    """
    ground = np.asarray(fabric.color, np.float32)
    accent = np.asarray(fabric.accent, np.float32)

    def paint(angle: FloatArray, distance: FloatArray) -> FloatArray:
        color = np.empty((angle.size, 3), np.float32)
        color[:] = ground
        color[_accented(fabric, angle, distance, girth, with_print)] = accent
        # Soft folds: cloth is never evenly lit.
        folds = np.sin(23.0 * distance + 2.0 * angle) * np.sin(3.0 * angle - 9.0 * distance)
        return color * (1.0 + 0.06 * folds)[:, None]

    return paint


def _accented(
    fabric: Fabric, angle: FloatArray, distance: FloatArray, girth: float, with_print: bool
) -> BoolArray:
    around, period = angle * girth, fabric.period
    mask: BoolArray
    match fabric.pattern:
        case "stripes":
            mask = np.mod(distance, period) < 0.45 * period
        case "pinstripes":
            mask = np.mod(around, 0.6 * period) < 0.16 * period
        case "checks":
            mask = (np.mod(distance, period) < 0.3 * period) | (
                np.mod(around, period) < 0.3 * period
            )
        case "dots":
            row = np.floor(distance / period)
            across = np.mod(around / period + 0.5 * row, 1.0) - 0.5
            mask = np.hypot(across, np.mod(distance / period, 1.0) - 0.5) < 0.30
        case "logo" if with_print:
            mask = (np.abs(around) < 0.08) & (np.abs(distance - 0.33) < 0.055)
        case "blocks" if with_print:
            mask = distance > 0.33
        case _:
            mask = np.zeros(angle.shape, np.bool_)
    return mask


def open_front(outer: Paint, inner: Paint) -> Paint:
    """Return a jacket worn open: ``inner`` shows in a gap that narrows towards the collar."""

    def paint(angle: FloatArray, distance: FloatArray) -> FloatArray:
        gap = np.abs(angle) < 0.42 - 0.25 * distance
        return np.where(gap[:, None], inner(angle, distance), outer(angle, distance))

    return paint


def on_ellipsoid(paint: Paint) -> LocalPaint:
    """Wrap a tube's texture around an ellipsoid."""

    def wrapped(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        return paint(np.arctan2(x, z), np.float32(0.14) * (y + 1.0))

    return wrapped

"""Drawing of the head: face, beard, glasses, hair and hats."""

from __future__ import annotations

import numpy as np

from reid_core.data.synthetic.parts import Part
from reid_core.data.synthetic.people import Color, Face, Hair, Person, blend
from reid_core.data.synthetic.raster import Canvas, LocalPaint, Paint, turn
from reid_core.data.synthetic.sections import BoolArray, FloatArray, Section
from reid_core.data.synthetic.textures import fabric_paint, on_ellipsoid
from reid_core.data.synthetic.wardrobe import Outfit

__all__ = ["draw_head"]

_EYE_HEIGHT = 0.06  # unit-sphere y of the eyes


def draw_head(
    canvas: Canvas, person: Person, outfit: Outfit, chin: FloatArray, frame: FloatArray
) -> None:
    """Draw the head with everything on it.

    Args:
        canvas: Where to draw.
        person: Whose head.
        outfit: Gives the hat.
        chin: (3,) m, bottom of the head in view axes.
        frame: (3, 3) side, up and front of the head in view axes, as columns.
    """
    half = 0.5 * person.head * person.height
    radii = (half * person.face.aspect, half, half * 0.90)
    center = chin + frame[:, 1] * np.float32(half * 0.94)
    canvas.ellipsoid(center, radii, frame, face_paint(person), Part.FACE, is_face=True)
    skin = _flat(person.skin)
    for side in (-1.0, 1.0):
        ear = center + turn(
            frame, np.array([side * radii[0] * 0.97, -0.02 * half, 0.0], np.float32)
        )
        size = person.face.ears * half
        canvas.ellipsoid(ear, (0.35 * size, size, 0.6 * size), frame, skin, Part.FACE)
    nose = center + turn(frame, np.array([0.0, -0.14 * half, radii[2] * 0.97], np.float32))
    length = 0.5 * person.face.nose * half
    canvas.ellipsoid(nose, (0.11 * half, length, 0.13 * half), frame, skin, Part.FACE, is_face=True)
    if person.face.beard in ("full", "goatee"):
        _draw_chin_beard(canvas, person.face, center, radii, frame)
    if person.hair.style != "bald":
        _draw_hair(canvas, person.hair, outfit.hat != "none", center, radii, frame)
    if outfit.hat != "none":
        _draw_hat(canvas, person, outfit, center, radii, frame)


def face_paint(person: Person) -> LocalPaint:
    """Return the texture of the head: eyes, brows, mouth, beard and glasses on skin."""
    face = person.face
    brow_color = blend(person.hair.color, (0.08, 0.06, 0.05), 0.4)
    lips = blend(person.skin, (0.62, 0.20, 0.20), 0.55)

    def paint(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        color = np.empty((x.size, 3), np.float32)
        color[:] = person.skin
        front = z > 0.0
        color[(np.hypot(np.abs(x) - 0.5, y + 0.2) < 0.25) & front] *= (1.02, 0.94, 0.94)
        across = np.abs(np.abs(x) - face.eye_distance)
        below = y - _EYE_HEIGHT
        color[front & ((across / 0.19) ** 2 + (below / 0.10) ** 2 < 1.0)] = (0.93, 0.93, 0.92)
        color[front & ((across / 0.09) ** 2 + (below / 0.10) ** 2 < 1.0)] = (0.10, 0.07, 0.06)
        color[front & (across < 0.20) & (np.abs(below - 0.21) < face.brow)] = brow_color
        _paint_beard(color, face, x, y, z)
        color[front & (np.abs(y + 0.50) < 0.055) & (np.abs(x) < face.mouth)] = lips
        if face.glasses > 0.0:
            _paint_glasses(color, face, x, below, z)
        return color

    return paint


def _paint_beard(
    color: FloatArray, face: Face, x: FloatArray, y: FloatArray, z: FloatArray
) -> None:
    if face.beard == "none":
        return
    lip = (np.abs(y + 0.36) < 0.085) & (np.abs(x) < 0.42) & (z > 0.0)
    chin = (y < -0.56) & (np.abs(x) < 0.42) & (z > 0.0)
    jaw = (y < -0.20 - 0.28 * (z > 0.72)) & (z > -0.12)
    areas = {"moustache": lip, "goatee": lip | chin, "full": lip | jaw, "stubble": lip | jaw}
    area = areas[face.beard]
    share = np.float32(0.45 if face.beard == "stubble" else 0.93)
    color[area] += (np.asarray(face.beard_color, np.float32) - color[area]) * share


def _paint_glasses(
    color: FloatArray, face: Face, x: FloatArray, below: FloatArray, z: FloatArray
) -> None:
    lens = np.hypot((np.abs(x) - face.eye_distance) / 0.33, below / 0.26)
    front = z > 0.0
    color[front & (lens < 1.0)] *= 0.86
    rim = front & (np.abs(lens - 1.0) < 2.8 * face.glasses)
    bridge = front & (np.abs(x) < 0.12) & (np.abs(below - 0.05) < face.glasses)
    temple = (np.abs(x) > 0.62) & (z > -0.1) & (np.abs(below - 0.05) < face.glasses)
    color[rim | bridge | temple] = face.glasses_color


def _draw_chin_beard(
    canvas: Canvas,
    face: Face,
    center: FloatArray,
    radii: tuple[float, float, float],
    frame: FloatArray,
) -> None:
    """Give a full beard or a goatee its volume below the chin."""
    width = 0.62 if face.beard == "full" else 0.30
    at = center + turn(frame, np.array([0.0, -0.80 * radii[1], 0.42 * radii[2]], np.float32))
    size = (width * radii[0], 0.30 * radii[1], 0.48 * radii[2])
    canvas.ellipsoid(at, size, frame, _flat(face.beard_color), Part.FACE, is_face=True)


def _draw_hair(
    canvas: Canvas,
    hair: Hair,
    is_covered: bool,
    center: FloatArray,
    radii: tuple[float, float, float],
    frame: FloatArray,
) -> None:
    """Draw the hair; a hat (``is_covered``) presses the crown down and hides buns."""
    rx, ry, rz = radii
    volume = 0.04 if is_covered else hair.volume
    paint = _strands(hair.color)
    # Heights down to which hair grows at the side and at the nape, unit-sphere y.
    side, nape = (-0.15, -0.55) if hair.style not in ("bob", "long") else (-0.62, -0.95)
    # Most cuts stand up more than they stand out at the sides.
    across = volume if hair.style == "afro" else 0.03 + 0.70 * volume
    grown = (rx * (1.0 + across), ry * (1.0 + volume), rz * (1.0 + volume))

    def region(x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        forehead = hair.hairline + 0.22 * hair.fringe * x
        edge = side + (forehead - side) * np.clip(1.7 * z, 0.0, 1.0)
        keep: BoolArray = y > edge + (nape - side) * np.clip(-1.4 * z, 0.0, 1.0)
        return keep

    lift = turn(frame, np.array([0.0, 0.35 * volume * ry, -0.25 * volume * rz], np.float32))
    canvas.ellipsoid(center + lift, grown, frame, paint, Part.HAIR, region=region)
    tube = _strands_along(hair.color)
    if hair.style in ("bob", "long"):
        top = center + turn(frame, np.array([0.0, 0.35 * ry, -0.30 * rz], np.float32))
        bottom = center + turn(
            frame, np.array([0.0, -ry - max(hair.length, -0.3 * ry), -0.55 * rz], np.float32)
        )
        wide = rx * (1.0 + 1.1 * hair.volume)
        section = Section((0.75 * wide, wide, wide, 0.80 * wide), (0.55 * rz,) * 4)
        canvas.tube(top, bottom, section, frame, tube, Part.HAIR, caps=(0.4 * ry, 0.03))
    elif hair.style == "ponytail":
        root = center + turn(frame, np.array([0.0, 0.30 * ry, -1.05 * rz], np.float32))
        tip = center + turn(frame, np.array([0.0, -0.9 * ry - hair.length, -1.25 * rz], np.float32))
        section = Section((0.20 * rx, 0.42 * rx, 0.15 * rx), (0.20 * rx, 0.40 * rx, 0.15 * rx))
        canvas.tube(root, tip, section, frame, tube, Part.HAIR, caps=(0.04, 0.02))
    elif hair.style == "bun" and not is_covered:
        at = center + turn(frame, np.array([0.0, 0.95 * ry, -0.62 * rz], np.float32))
        size = (0.30 + hair.volume) * ry
        canvas.ellipsoid(at, (size, 0.9 * size, size), frame, paint, Part.HAIR)


def _draw_hat(
    canvas: Canvas,
    person: Person,
    outfit: Outfit,
    center: FloatArray,
    radii: tuple[float, float, float],
    frame: FloatArray,
) -> None:
    paint = on_ellipsoid(fabric_paint(outfit.hat_fabric))
    edge = 0.30 if outfit.hat == "cap" else 0.16
    grown = (radii[0] * 1.12, radii[1] * 1.12, radii[2] * 1.12)

    def region(x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        keep: BoolArray = y > edge + 0.12 * z
        return keep

    canvas.ellipsoid(center, grown, frame, paint, Part.HAT, region=region)
    if outfit.hat == "cap":
        at = center + turn(frame, np.array([0.0, 0.42 * radii[1], 1.15 * radii[2]], np.float32))
        brim = (0.80 * radii[0], 0.09 * radii[1], 0.62 * radii[2])
        canvas.ellipsoid(at, brim, frame, paint, Part.HAT)


def _strands(color: Color) -> LocalPaint:
    """Return hair on an ellipsoid: strands that run down from the crown, and a sheen."""
    base = np.asarray(color, np.float32)

    def paint(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        strand = 0.09 * np.sin(17.0 * np.arctan2(x, z) + 4.0 * y)
        sheen = 0.10 * np.exp(-((y - 0.62) ** 2) * 30.0)
        color: FloatArray = base * (1.0 + strand)[:, None] + sheen[:, None]
        return color

    return paint


def _strands_along(color: Color) -> Paint:
    base = np.asarray(color, np.float32)

    def paint(angle: FloatArray, distance: FloatArray) -> FloatArray:
        return base * (1.0 + 0.10 * np.sin(14.0 * angle + 12.0 * distance))[:, None]

    return paint


def _flat(color: Color) -> LocalPaint:
    base = np.asarray(color, np.float32)

    def paint(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        return base

    return paint

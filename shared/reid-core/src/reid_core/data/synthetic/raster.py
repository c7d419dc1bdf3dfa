"""A small depth-buffered rasteriser for two solids: tubes and ellipsoids.

A figure is a set of solids in metres. Each is intersected with the orthographic view rays of the
pixels in its bounding box, so limbs, garments and bags hide each other correctly from every
viewpoint, are lit by their surface normals, and carry a texture that stays in place when the person
turns. View axes: x right, y up, z towards the camera. N is the number of pixels that a solid meets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid_core.data.synthetic.parts import Part
from reid_core.data.synthetic.sections import (
    STATIONS,
    BoolArray,
    FloatArray,
    Section,
    sample_profile,
    section_turn,
    tube_bounds,
)

__all__ = ["Canvas", "LocalPaint", "Paint", "length_of", "rotation", "turn"]

Paint = Callable[[FloatArray, FloatArray], FloatArray]
"""Texture of a tube: (angle from the front, rad; distance from its start, m) -> (N, 3) or (3,)."""

LocalPaint = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""Texture of an ellipsoid: unit-sphere coordinates x, y, z -> (N, 3) or (3,) colour."""


class _Rays(NamedTuple):
    """The view rays through the pixels of a bounding box."""

    x: FloatArray  # (1, w) m
    y: FloatArray  # (h, 1) m
    pixel: NDArray[np.intp]  # (h, w) index into the flattened canvas


def turn(frame: FloatArray, points: FloatArray) -> FloatArray:
    """Return ``frame`` times ``points``; written out, because BLAS rounds as the processor does.

    Args:
        frame: (3, 3).
        points: (3,), or (3, n) with a point per column.

    Returns:
        Same shape and dtype as ``points`` promoted with ``frame``.
    """
    columns = points if points.ndim == 2 else points[:, None]
    turned: FloatArray = (
        frame[:, 0:1] * columns[0] + frame[:, 1:2] * columns[1] + frame[:, 2:3] * columns[2]
    )
    return turned if points.ndim == 2 else turned[:, 0]


def length_of(vector: FloatArray | Sequence[float]) -> float:
    """Return the Euclidean length of a vector (3,); not by BLAS, as ``turn``."""
    x, y, z = (float(value) for value in vector)
    return math.sqrt(x * x + y * y + z * z)


def rotation(yaw: float, pitch: float = 0.0) -> FloatArray:
    """Return the matrix that turns by ``yaw`` about y, then by ``pitch`` about x (radians).

    Columns are the images of the x, y and z axes. Positive yaw turns the front (z) to the right
    of the picture; positive pitch is a camera that looks down.

    Returns:
        (3, 3) float32.
    """
    cy, sy = np.cos(yaw), np.sin(yaw)
    cp, sp = np.cos(pitch), np.sin(pitch)
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    turned: FloatArray = turn(about_x, about_y).astype(np.float32)
    return turned


class Canvas:
    """Colour, depth and part label of every pixel of one figure.

    Attributes:
        color: (H, W, 3) float32, lit colour; 0 where nothing was drawn.
        depth: (H, W) float32, metres towards the camera; -inf where nothing was drawn.
        part: (H, W) uint8, `Part` values.
        face: (H, W) bool, the front of the head where it is visible.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        pixels_per_metre: float,
        origin: tuple[float, float],
        light: tuple[float, float, float],
        ambient: float,
    ) -> None:
        """Create an empty canvas.

        Args:
            height: Pixels.
            width: Pixels.
            pixels_per_metre: Scale of the view.
            origin: Row and column of the view's x = y = 0.
            light: Direction towards the light in view axes; any length.
            ambient: Share of the light that comes from everywhere, in [0, 1].
        """
        self.color: FloatArray = np.zeros((height, width, 3), np.float32)
        self.depth: FloatArray = np.full((height, width), -np.inf, np.float32)
        self.part: NDArray[np.uint8] = np.zeros((height, width), np.uint8)
        self.face: BoolArray = np.zeros((height, width), np.bool_)
        self._scale = pixels_per_metre
        self._origin = origin
        norm = length_of(light)
        self._light = (light[0] / norm, light[1] / norm, light[2] / norm)
        self._ambient = ambient

    def tube(
        self,
        start: FloatArray,
        end: FloatArray,
        section: Section,
        frame: FloatArray,
        paint: Paint,
        part: Part,
        *,
        caps: tuple[float, float] = (0.0, 0.0),
        region: Callable[[FloatArray, FloatArray], BoolArray] | None = None,
    ) -> None:
        """Draw a solid with an elliptic section that varies along a straight axis.

        The section is taken in the plane of the axis' normal and the view ray: exact for an axis
        across the view, close for the tilts that people and cameras have.

        Args:
            start: (3,) m, first end of the axis in view axes.
            end: (3,) m.
            section: Half-widths from start to end.
            frame: (3, 3) side, up and front axes of the body part in view axes, as columns.
            paint: Texture.
            part: Label.
            caps: Lengths of the rounded ends beyond start and end, m; 0 is a flat cut.
            region: (angle, distance) -> keep; leaves out parts of the surface.
        """
        axis = end - start
        length = max(float(np.hypot(axis[0], axis[1])), 1e-3)
        dx, dy = float(axis[0]) / length, float(axis[1]) / length
        total = length + caps[0] + caps[1]
        rays = self._rays(*tube_bounds(start, end, (dx, dy), section, caps))
        x, y = rays.x - float(start[0]), rays.y - float(start[1])
        station = ((x * dx + y * dy + caps[0]) * (STATIONS / total) + 1.0).astype(np.int32)
        np.clip(station, 0, STATIONS + 1, out=station)
        across = x * dy - y * dx

        widths, depths = sample_profile(section, length, caps)
        cos, sin = section_turn(frame, dx, dy)
        reach = np.sqrt((widths * cos) ** 2 + (depths * sin) ** 2)
        inside = np.flatnonzero(np.abs(across) < reach[station])
        if not inside.size:
            return
        station, d = station.ravel()[inside], across.ravel()[inside]
        a, b = 1.0 / widths[station], 1.0 / depths[station]
        # (a X)^2 + (b Z)^2 = 1 met by the ray (d, z), where X = d cos - z sin, Z = d sin + z cos.
        square = (a * sin) ** 2 + (b * cos) ** 2
        linear = d * (b * b - a * a) * (cos * sin)
        rest = d * d * ((a * cos) ** 2 + (b * sin) ** 2) - 1.0
        z = (np.sqrt(np.maximum(linear * linear - square * rest, 0.0)) - linear) / square
        side, front = (d * cos - z * sin) * a, (d * sin + z * cos) * b

        share = np.clip((station - 1) / STATIONS * (total / length) - caps[0] / length, 0.0, 1.0)
        share = share.astype(np.float32)
        # The side and front axes swap hands when the tube is drawn from top to bottom.
        angle = np.arctan2(side, front if dy >= 0.0 else -front)
        distance = share * length_of(axis)
        keep = slice(None) if region is None else region(angle, distance)
        normal_d, normal_z = side * a * cos + front * b * sin, front * b * cos - side * a * sin
        self._write(
            rays.pixel.ravel()[inside[keep]],
            (z + (float(start[2]) + share * float(axis[2])))[keep],
            (normal_d[keep] * dy, normal_d[keep] * -dx, normal_z[keep]),
            paint(angle[keep], distance[keep]),
            part,
        )

    def ellipsoid(
        self,
        center: FloatArray,
        radii: tuple[float, float, float],
        frame: FloatArray,
        paint: LocalPaint,
        part: Part,
        *,
        region: Callable[[FloatArray, FloatArray, FloatArray], BoolArray] | None = None,
        is_face: bool = False,
    ) -> None:
        """Draw an ellipsoid.

        Args:
            center: (3,) m in view axes.
            radii: Half-axes along the columns of ``frame``, m.
            frame: (3, 3) rotation; columns are the local axes in view axes.
            paint: Texture.
            part: Label.
            region: (x, y, z) on the unit sphere -> keep; leaves out parts of the surface.
            is_face: Whether the front belongs to the face.
        """
        extent = np.sqrt(((frame * np.asarray(radii, np.float32)) ** 2).sum(axis=1))
        cx, cy = float(center[0]), float(center[1])
        ex, ey = float(extent[0]), float(extent[1])
        rays = self._rays(cx - ex, cx + ex, cy - ey, cy + ey)
        x, y = rays.x - cx, rays.y - cy
        m = [[float(frame[j, i]) / radii[i] for j in range(3)] for i in range(3)]
        # Unit-sphere coordinates are m p; |m p| = 1 along the ray p = (x, y, z).
        base = [row[0] * x + row[1] * y for row in m]
        square = sum(row[2] * row[2] for row in m)
        linear = m[0][2] * base[0] + m[1][2] * base[1] + m[2][2] * base[2]
        rest = base[0] ** 2 + base[1] ** 2 + base[2] ** 2 - 1.0
        root = linear * linear - square * rest
        inside = np.flatnonzero(root > 0.0)
        if not inside.size:
            return
        z = (np.sqrt(root.ravel()[inside]) - linear.ravel()[inside]) / square
        u, v, w = (base[i].ravel()[inside] + m[i][2] * z for i in range(3))
        if region is not None:
            keep = region(u, v, w)
            inside, z, u, v, w = inside[keep], z[keep], u[keep], v[keep], w[keep]
        normal = [m[0][i] * u + m[1][i] * v + m[2][i] * w for i in range(3)]
        self._write(
            rays.pixel.ravel()[inside],
            z + float(center[2]),
            (normal[0], normal[1], normal[2]),
            paint(u, v, w),
            part,
            face=w > 0.1 if is_face else None,
        )

    def _rays(self, left: float, right: float, bottom: float, top: float) -> _Rays:
        height, width = self.depth.shape
        row0, col0 = self._origin
        rows = np.arange(
            max(int(row0 - top * self._scale), 0), min(int(row0 - bottom * self._scale) + 1, height)
        )
        cols = np.arange(
            max(int(col0 + left * self._scale), 0), min(int(col0 + right * self._scale) + 1, width)
        )
        x = ((cols + (0.5 - col0)) / self._scale).astype(np.float32)
        y = ((row0 - 0.5 - rows) / self._scale).astype(np.float32)
        return _Rays(x[None, :], y[:, None], rows[:, None] * width + cols[None, :])

    def _write(
        self,
        target: NDArray[np.intp],
        depth: FloatArray,
        normal: tuple[FloatArray, FloatArray, FloatArray],
        color: FloatArray,
        part: Part,
        face: BoolArray | None = None,
    ) -> None:
        """Light and store the pixels that are nearer than what is there."""
        near = np.flatnonzero(depth > self.depth.ravel()[target])
        target = target[near]
        nx, ny, nz = (component[near] for component in normal)
        norm = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz)
        lit = (nx * self._light[0] + ny * self._light[1] + nz * self._light[2]) * norm
        # The last factor darkens surfaces that turn away: it sets limbs off from the torso.
        shade = self._ambient + (1.0 - self._ambient) * np.maximum(lit, 0.0)
        shade *= 0.70 + 0.30 * nz * norm
        if color.ndim == 2:
            color = color[near]
        self.depth.ravel()[target] = depth[near]
        self.color.reshape(-1, 3)[target] = color * shade[:, None]
        self.part.ravel()[target] = part
        self.face.ravel()[target] = False if face is None else face[near]

"""The rasteriser against loop references and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from reid_core.data.synthetic.parts import Part
from reid_core.data.synthetic.raster import Canvas, rotation
from reid_core.data.synthetic.sections import Section

_SCALE = 40.0  # pixels per metre
_SIZE = (80, 72)
_ORIGIN = (40.0, 36.0)


def make_canvas(**changes):
    settings = {
        "pixels_per_metre": _SCALE,
        "origin": _ORIGIN,
        "light": (0.0, 0.0, 1.0),
        "ambient": 0.5,
    }
    return Canvas(*_SIZE, **{**settings, **changes})


def flat(color=(1.0, 1.0, 1.0)):
    return lambda *_: np.asarray(color, np.float32)


def vector(*values):
    return np.array(values, np.float32)


def pixel_points():
    """Yield every third pixel of every second row with the view ray through it."""
    for row in range(0, _SIZE[0], 2):
        for column in range(0, _SIZE[1], 3):
            x = (column + 0.5 - _ORIGIN[1]) / _SCALE
            y = (_ORIGIN[0] - 0.5 - row) / _SCALE
            yield row, column, x, y


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.7, 0.0), (-1.1, 0.5)])
def test_ellipsoid_matches_a_search_along_every_ray(yaw, pitch):
    canvas, frame = make_canvas(), rotation(yaw, pitch)
    center, radii = vector(0.1, -0.2, 0.3), (0.5, 0.3, 0.2)
    canvas.ellipsoid(center, radii, frame, flat(), Part.HAT)
    steps = np.linspace(0.7, -0.7, 1401)
    for row, column, x, y in pixel_points():
        points = np.stack([np.full_like(steps, x - 0.1), np.full_like(steps, y + 0.2), steps])
        inside = (((frame.T @ points) / np.array(radii)[:, None]) ** 2).sum(axis=0) <= 1.0
        if not inside.any():
            assert canvas.part[row, column] == 0
        elif inside.sum() > 20:  # a grazing ray may fall between two steps
            assert canvas.part[row, column] == Part.HAT
            first = steps[np.argmax(inside)] + 0.3
            assert canvas.depth[row, column] == pytest.approx(first, abs=2e-3)


@pytest.mark.parametrize("yaw", [0.0, 0.6, 1.1, -2.5])
@pytest.mark.parametrize("upward", [True, False])
def test_upright_tube_matches_its_ellipse(yaw, upward):
    canvas, frame = make_canvas(), rotation(yaw)
    a, b = 0.4, 0.15
    ends = [vector(0.0, -0.5, 0.1), vector(0.0, 0.5, 0.1)]
    angles = {}

    def paint(angle, distance):
        angles["front"] = angle
        return np.ones(3, np.float32)

    start, end = ends if upward else ends[::-1]
    canvas.tube(start, end, Section((a, a), (b, b)), frame, paint, Part.PANTS)
    cos, sin = float(frame[0, 0]), float(frame[2, 0])
    for row, column, x, y in pixel_points():
        # Side and front coordinates of (x, z) are x cos + z sin and z cos - x sin.
        steps = np.linspace(0.5, -0.5, 2001)
        side, front = x * cos + steps * sin, steps * cos - x * sin
        inside = (side / a) ** 2 + (front / b) ** 2 <= 1.0
        if abs(y) >= 0.5 or not inside.any():
            assert canvas.part[row, column] == 0
        elif inside.sum() > 40:
            first = steps[np.argmax(inside)] + 0.1
            assert canvas.depth[row, column] == pytest.approx(first, abs=2e-3)
    # Whichever way the tube is drawn, angle 0 is the front of the body.
    seen = np.abs(angles["front"]).min() < 0.1
    assert seen == (np.cos(yaw) > 0)


def test_caps_round_the_ends():
    flat_end, round_end = make_canvas(), make_canvas()
    ends = vector(0.0, -0.4, 0.0), vector(0.0, 0.4, 0.0)
    section = Section((0.2, 0.2), (0.2, 0.2))
    flat_end.tube(*ends, section, rotation(0.0), flat(), Part.HAIR)
    round_end.tube(*ends, section, rotation(0.0), flat(), Part.HAIR, caps=(0.2, 0.2))
    assert (flat_end.part > 0).sum() == pytest.approx(0.4 * 0.8 * _SCALE**2, rel=0.03)
    disc = np.pi * 0.2**2 * _SCALE**2
    added = (round_end.part > 0).sum() - (flat_end.part > 0).sum()
    assert added == pytest.approx(disc, rel=0.08)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_solid_wins_in_any_order(order):
    canvas = make_canvas()
    solids = [(vector(0.0, 0.0, 0.5), Part.BAG), (vector(0.0, 0.0, -0.5), Part.PANTS)]
    for index in order:
        center, part = solids[index]
        canvas.ellipsoid(center, (0.3, 0.3, 0.1), rotation(0.0), flat(), part)
    assert set(np.unique(canvas.part)) == {0, Part.BAG}


def test_face_is_the_front_of_what_is_marked_and_can_be_covered():
    canvas = make_canvas()
    head = vector(0.0, 0.0, 0.0), (0.4, 0.5, 0.4), rotation(0.0)
    canvas.ellipsoid(*head, flat(), Part.FACE, is_face=True)
    everything = canvas.face.sum()
    assert 0.9 * (canvas.part > 0).sum() < everything
    canvas.ellipsoid(vector(0.0, 0.3, 0.5), (0.5, 0.3, 0.1), rotation(0.0), flat(), Part.HAT)
    assert 0 < canvas.face.sum() < everything
    assert not canvas.face[canvas.part == Part.HAT].any()
    turned = make_canvas()
    turned.ellipsoid(head[0], head[1], rotation(np.pi), flat(), Part.FACE, is_face=True)
    assert not turned.face.any()


def test_region_leaves_out_parts_of_the_surface():
    canvas = make_canvas()
    canvas.ellipsoid(
        vector(0.0, 0.0, 0.0),
        (0.4, 0.4, 0.4),
        rotation(0.0),
        flat(),
        Part.HAIR,
        region=lambda x, y, z: y > 0.0,
    )
    rows = np.flatnonzero((canvas.part > 0).any(axis=1))
    assert rows[-1] < _ORIGIN[0]
    assert rows[0] < _ORIGIN[0] - 0.35 * _SCALE


def test_light_brightens_the_side_it_comes_from():
    canvas = make_canvas(light=(1.0, 0.0, 0.3), ambient=0.2)
    canvas.ellipsoid(vector(0, 0, 0), (0.4, 0.4, 0.4), rotation(0.0), flat(), Part.HAIR)
    row = int(_ORIGIN[0])
    left, right = canvas.color[row, 26, 0], canvas.color[row, 46, 0]
    assert right > 1.5 * left > 0.0
    assert canvas.color.max() <= 1.0


@pytest.mark.parametrize("x", [-5.0, 5.0])
def test_what_is_outside_the_picture_is_not_drawn(x):
    canvas = make_canvas()
    canvas.ellipsoid(vector(x, 0, 0), (0.3, 0.3, 0.3), rotation(0.0), flat(), Part.HAIR)
    section = Section((0.2, 0.2), (0.2, 0.2))
    canvas.tube(vector(x, 0, 0), vector(x, 1, 0), section, rotation(0.0), flat(), Part.HAIR)
    assert not canvas.part.any()

"""Drawing of a person: skeleton to skin, and what is worn over it."""

from __future__ import annotations

import numpy as np

from reid_core.data.synthetic import clothes
from reid_core.data.synthetic.head import draw_head
from reid_core.data.synthetic.parts import Part
from reid_core.data.synthetic.people import Person
from reid_core.data.synthetic.pose import Limb, Pose, Skeleton, build_skeleton
from reid_core.data.synthetic.raster import Canvas, length_of, rotation, turn
from reid_core.data.synthetic.sections import FloatArray, Section
from reid_core.data.synthetic.textures import flat_paint, on_ellipsoid
from reid_core.data.synthetic.wardrobe import Outfit

__all__ = ["draw_figure"]

_ARMS = (Part.RIGHT_ARM, Part.LEFT_ARM)
_LEGS = (Part.RIGHT_LEG, Part.LEFT_LEG)


def draw_figure(
    canvas: Canvas, person: Person, outfit: Outfit, pose: Pose, camera_pitch: float
) -> None:
    """Draw a person on a canvas whose origin is the ground below the hips.

    Args:
        canvas: Where to draw.
        person: Who.
        outfit: In which clothes.
        pose: In which pose.
        camera_pitch: How far the camera looks down, rad.
    """
    frame = rotation(pose.yaw, camera_pitch)
    body = _to_view(build_skeleton(person, pose), frame)
    torso = _torso_section(person)
    for side in (0, 1):
        _draw_leg(canvas, person, outfit, body.legs[side], side, frame)
        _draw_arm(canvas, person, outfit, body.arms[side], side, frame)
    clothes.draw_lower(canvas, outfit, body, torso, frame)
    clothes.draw_upper(canvas, outfit, body, torso, frame)
    clothes.draw_bag(canvas, outfit, body, torso, frame)
    _draw_neck(canvas, person, outfit, body, frame)
    # The head turns about the body's up axis, then nods about its own side axis.
    nod = rotation(0.0, person.gait.head_tilt + pose.head_pitch)
    draw_head(canvas, person, outfit, body.chin, turn(turn(frame, rotation(pose.head_yaw)), nod))


def _to_view(body: Skeleton, frame: FloatArray) -> Skeleton:
    def limbs(pair: tuple[Limb, Limb]) -> tuple[Limb, Limb]:
        right, left = (Limb(*(turn(frame, joint) for joint in limb)) for limb in pair)
        return right, left

    return Skeleton(
        turn(frame, body.crotch),
        turn(frame, body.waist),
        turn(frame, body.neck),
        turn(frame, body.chin),
        limbs(body.arms),
        limbs(body.legs),
    )


def _torso_section(person: Person) -> Section:
    """Return the naked torso from crotch to neck."""
    shoulders, belly = person.shoulders - 0.04, 0.105 * person.girth
    hips, waist = person.hips, person.waist
    chest = 0.4 * waist + 0.6 * shoulders
    low_width = (0.80 * hips, hips, 0.45 * hips + 0.55 * waist, waist, 0.5 * (waist + chest))
    high_width = (chest, 0.3 * chest + 0.7 * shoulders, shoulders, 0.92 * shoulders)
    low_depth = (0.09, 0.075 + 0.3 * belly, belly, 1.02 * belly, 0.5 * belly + 0.055)
    high_depth = (0.112, 0.110, 0.098, 0.070)
    return Section(low_width + high_width, low_depth + high_depth)


def _draw_leg(
    canvas: Canvas, person: Person, outfit: Outfit, leg: Limb, side: int, frame: FloatArray
) -> None:
    thick = person.girth**0.7
    thigh = Section((0.086 * thick, 0.058 * thick), (0.092 * thick, 0.060 * thick))
    calf = Section((0.058 * thick, 0.054 * thick, 0.036), (0.060 * thick, 0.062 * thick, 0.040))
    skin = flat_paint(person.skin)
    covered = 0.0 if outfit.lower in ("skirt", "none") else outfit.lower_length
    if covered < 0.5:
        canvas.tube(leg.root, leg.middle, thigh, frame, skin, _LEGS[side])
    if covered < 1.0:
        canvas.tube(leg.middle, leg.end, calf, frame, skin, _LEGS[side], caps=(0.04, 0.0))
    if covered > 0.0:
        clothes.draw_trouser_leg(canvas, outfit, leg, (thigh, calf), frame)
    foot = turn(frame, rotation(person.gait.toe_out * (1.0 if side else -1.0)))
    clothes.draw_shoe(canvas, outfit, leg, calf, side, (frame, foot))


def _draw_arm(
    canvas: Canvas, person: Person, outfit: Outfit, arm: Limb, side: int, frame: FloatArray
) -> None:
    thick = person.girth**0.7
    upper = Section((0.055 * thick, 0.043 * thick), (0.055 * thick, 0.043 * thick))
    fore = Section((0.043 * thick, 0.040 * thick, 0.028), (0.043 * thick, 0.040 * thick, 0.026))
    skin, bare = flat_paint(person.skin), _ARMS[side]
    if outfit.sleeve < 0.5:
        canvas.tube(arm.root, arm.middle, upper, frame, skin, bare, caps=(0.05, 0.03))
    if outfit.sleeve < 1.0:
        canvas.tube(arm.middle, arm.end, fore, frame, skin, bare, caps=(0.03, 0.0))
    along = arm.end - arm.middle
    hand = arm.end + np.float32(0.055 / length_of(along)) * along
    canvas.ellipsoid(hand, (0.036, 0.075, 0.040), frame, on_ellipsoid(skin), bare)
    if outfit.sleeve > 0.0:
        clothes.draw_sleeve(canvas, outfit, arm, (upper, fore), frame)


def _draw_neck(
    canvas: Canvas, person: Person, outfit: Outfit, body: Skeleton, frame: FloatArray
) -> None:
    neck = 0.052 * person.girth**0.5
    up = frame[:, 1]
    base, top = body.neck - up * np.float32(0.03), body.chin + up * np.float32(0.03)
    section = Section((1.35 * neck, neck), (1.2 * neck, neck))
    canvas.tube(base, top, section, frame, flat_paint(person.skin), Part.FACE)
    clothes.draw_collar(canvas, outfit, body, section, frame)

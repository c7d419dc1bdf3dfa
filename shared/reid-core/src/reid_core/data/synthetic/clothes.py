"""Drawing of clothes, shoes and bags over a skeleton in view axes.

``frame`` is always the (3, 3) matrix whose columns are the body's side, up and front axes in view
axes; sections are those of the bare body.
"""

from __future__ import annotations

import numpy as np

from reid_core.data.synthetic.parts import Part
from reid_core.data.synthetic.pose import Limb, Skeleton
from reid_core.data.synthetic.raster import Canvas, length_of, turn
from reid_core.data.synthetic.sections import BoolArray, FloatArray, Section
from reid_core.data.synthetic.textures import fabric_paint, flat_paint, on_ellipsoid, open_front
from reid_core.data.synthetic.wardrobe import LowerKind, Outfit

__all__ = [
    "draw_bag",
    "draw_collar",
    "draw_lower",
    "draw_shoe",
    "draw_sleeve",
    "draw_trouser_leg",
    "draw_upper",
]

# Surface metres per radian of angle, so that patterns keep their size on thin limbs.
_SLEEVE_GIRTH, _LEG_GIRTH = 0.06, 0.09
# How far trousers stand off the leg at the knee and at the hem, m.
_TROUSER_EASE: dict[LowerKind, tuple[float, float]] = {
    "trousers": (0.015, 0.045),
    "slim": (0.006, 0.018),
    "wide": (0.030, 0.090),
    "shorts": (0.030, 0.040),
}
# Tops stand off the body at least this far, and waistbands less, so that none shows through.
_TOP_EASE, _WAISTBAND_EASE = 0.012, 0.005


def draw_trouser_leg(
    canvas: Canvas, outfit: Outfit, leg: Limb, sections: tuple[Section, Section], frame: FloatArray
) -> None:
    """Draw one leg of trousers or shorts over the sections of thigh and calf."""
    at_knee, at_hem = _TROUSER_EASE[outfit.lower]
    paint = fabric_paint(outfit.lower_fabric, girth=_LEG_GIRTH)
    thigh, calf = sections
    upper = min(2.0 * outfit.lower_length, 1.0)
    end = leg.root + np.float32(upper) * (leg.middle - leg.root)
    section = _eased(thigh.cut(0.0, upper), _WAISTBAND_EASE, at_knee)
    canvas.tube(leg.root, end, section, frame, paint, Part.PANTS, caps=(0.05, 0.0))
    lower = 2.0 * outfit.lower_length - 1.0
    if lower > 0.0:
        end = leg.middle + np.float32(lower) * (leg.end - leg.middle)
        section = _eased(calf.cut(0.0, lower), at_knee, at_hem)
        canvas.tube(leg.middle, end, section, frame, paint, Part.PANTS, caps=(0.05, 0.0))


def draw_shoe(
    canvas: Canvas,
    outfit: Outfit,
    leg: Limb,
    calf: Section,
    side: int,
    frames: tuple[FloatArray, FloatArray],
) -> None:
    """Draw a shoe or boot on the right (``side`` 0) or left foot; axes of the body and foot."""
    part = (Part.RIGHT_SHOE, Part.LEFT_SHOE)[side]
    paint, (frame, foot) = flat_paint(outfit.shoes), frames
    if outfit.boots > 0.0:
        top = leg.end + np.float32(outfit.boots) * (leg.middle - leg.end)
        shaft = calf.cut(1.0 - outfit.boots, 1.0).grown(0.012)
        canvas.tube(top, leg.end, shaft, frame, paint, part)
    center = leg.end + turn(foot, np.array([0.0, -0.015, 0.055], np.float32))
    canvas.ellipsoid(center, (0.052, 0.058, 0.135), foot, on_ellipsoid(paint), part)


def draw_sleeve(
    canvas: Canvas, outfit: Outfit, arm: Limb, sections: tuple[Section, Section], frame: FloatArray
) -> None:
    """Draw one sleeve over the sections of upper arm and forearm."""
    part = Part.DRESS if outfit.upper == "dress" else Part.UPPER_CLOTHES
    paint = fabric_paint(outfit.upper_fabric, girth=_SLEEVE_GIRTH)
    ease = 0.6 * outfit.ease
    upper, fore = sections
    share = min(2.0 * outfit.sleeve, 1.0)
    cuff = arm.root + np.float32(share) * (arm.middle - arm.root)
    section = upper.cut(0.0, share).grown(ease)
    canvas.tube(arm.root, cuff, section, frame, paint, part, caps=(0.055, 0.0))
    share = 2.0 * outfit.sleeve - 1.0
    if share > 0.0:
        cuff = arm.middle + np.float32(share) * (arm.end - arm.middle)
        section = fore.cut(0.0, share).grown(ease)
        canvas.tube(arm.middle, cuff, section, frame, paint, part, caps=(0.045, 0.0))


def draw_lower(
    canvas: Canvas, outfit: Outfit, body: Skeleton, torso: Section, frame: FloatArray
) -> None:
    """Draw a skirt, or the part of trousers between waist and legs."""
    if outfit.lower == "none":
        return
    paint = fabric_paint(outfit.lower_fabric)
    if outfit.lower != "skirt":
        section = torso.cut(0.0, 0.34).grown(_WAISTBAND_EASE)
        canvas.tube(body.crotch, body.waist, section, frame, paint, Part.PANTS, caps=(0.03, 0.0))
        return
    leg = body.legs[0]
    length = length_of(leg.middle - leg.root) + length_of(leg.end - leg.middle)
    drop = outfit.lower_length * float(length)
    hips = _skirt_section(body, torso, frame, drop, 0.02 + 2.0 * outfit.ease)
    section = Section(
        (*hips.width, torso.width[3] + _WAISTBAND_EASE),
        (*hips.depth, torso.depth[3] + _WAISTBAND_EASE),
    )
    hem = body.crotch - frame[:, 1] * np.float32(drop)
    canvas.tube(hem, body.waist, section, frame, paint, Part.SKIRT)


def draw_upper(
    canvas: Canvas, outfit: Outfit, body: Skeleton, torso: Section, frame: FloatArray
) -> None:
    """Draw the top without its sleeves; coats and dresses reach below the hips."""
    paint = fabric_paint(outfit.upper_fabric, with_print=True)
    part = Part.DRESS if outfit.upper == "dress" else Part.UPPER_CLOTHES
    if outfit.upper in ("jacket", "coat") and outfit.is_open:
        paint = open_front(paint, fabric_paint(outfit.inner_fabric))
    axis = body.neck - body.crotch
    above_crotch = length_of(body.waist - body.crotch) - outfit.hem
    start = max(above_crotch / length_of(axis), 0.0)
    shell = torso.cut(start, 1.0).grown(max(outfit.ease, _TOP_EASE))
    bottom = body.crotch + np.float32(start) * axis
    canvas.tube(bottom, body.neck, shell, frame, paint, part, caps=(0.0, 0.05))
    if above_crotch < 0.0:
        section = _skirt_section(body, torso, frame, -above_crotch, 0.03).grown(outfit.ease)
        hem = body.crotch + frame[:, 1] * np.float32(above_crotch)
        canvas.tube(hem, body.crotch + np.float32(0.16) * axis, section, frame, paint, part)


def draw_collar(
    canvas: Canvas, outfit: Outfit, body: Skeleton, neck: Section, frame: FloatArray
) -> None:
    """Draw a scarf, or the collar of shirts, jackets and coats, around the neck."""
    if outfit.has_scarf:
        paint, part, ease = fabric_paint(outfit.hat_fabric), Part.SCARF, 0.045
    elif outfit.upper in ("jacket", "coat", "shirt"):
        paint, part, ease = fabric_paint(outfit.upper_fabric), Part.UPPER_CLOTHES, 0.022
    else:
        return
    low, high = (body.neck + frame[:, 1] * np.float32(height) for height in (-0.03, 0.03))
    canvas.tube(low, high, neck.grown(ease), frame, paint, part, caps=(0.0, 0.02))


def draw_bag(
    canvas: Canvas, outfit: Outfit, body: Skeleton, torso: Section, frame: FloatArray
) -> None:
    """Draw a backpack, a shoulder bag with its strap, or a handbag."""
    if outfit.bag == "none":
        return
    paint = fabric_paint(outfit.bag_fabric)
    axis = body.neck - body.crotch
    side = float(outfit.bag_side)

    def strap(angle: FloatArray, distance: FloatArray) -> BoolArray:
        keep: BoolArray = np.abs(angle * side - (1.35 - 5.5 * distance)) < 0.16
        if outfit.bag == "backpack":
            keep = (np.abs(np.abs(angle) - 0.85) < 0.16) & (distance > 0.10)
        return keep

    if outfit.bag != "handbag":
        start = body.crotch + np.float32(0.3) * axis
        shell = torso.cut(0.3, 1.0).grown(max(outfit.ease, _TOP_EASE) + 0.006)
        canvas.tube(start, body.neck, shell, frame, paint, Part.BAG, caps=(0.0, 0.05), region=strap)
    half = {"backpack": (0.15, 0.20, 0.10), "shoulder": (0.06, 0.11, 0.15)}.get(
        outfit.bag, (0.06, 0.12, 0.15)
    )
    if outfit.bag == "backpack":
        center = body.crotch + np.float32(0.64) * axis
        center = center - frame[:, 2] * np.float32(0.18 + outfit.ease)
    elif outfit.bag == "shoulder":
        hip = torso.width[1] + outfit.ease + 0.05
        center = body.crotch + np.float32(0.08) * axis + frame[:, 0] * np.float32(side * hip)
    else:
        hand = body.arms[1 if outfit.bag_side > 0 else 0].end
        center = hand - frame[:, 1] * np.float32(0.22)
    up = frame[:, 1] * np.float32(half[1] - 0.05)
    box = Section((half[0], half[0]), (half[2], half[2]))
    canvas.tube(center - up, center + up, box, frame, paint, Part.BAG, caps=(0.05, 0.07))


def _skirt_section(
    body: Skeleton, torso: Section, frame: FloatArray, drop: float, flare: float
) -> Section:
    """Return what hangs from the hips, hem first, wide enough at the hem for both legs.

    ``drop`` is how far the hem is below the crotch and ``flare`` how much wider than the hips it
    is at least, m.
    """
    hips = (torso.width[1] + 0.01, max(torso.depth[1], torso.depth[2]) + 0.02)
    hem = [half + flare for half in hips]
    for leg in body.legs:
        upper, lower = leg.middle - leg.root, leg.end - leg.middle
        share = drop / length_of(upper)
        at = leg.root + np.float32(min(share, 1.0)) * upper
        at = at + np.float32(min(max(share - 1.0, 0.0), 1.0)) * lower - body.crotch
        for i, axis in enumerate((frame[:, 0], frame[:, 2])):
            hem[i] = max(hem[i], abs(float((at * axis).sum())) + 0.08)
    return Section((hem[0], hips[0]), (hem[1], hips[1]))


def _eased(section: Section, start: float, end: float) -> Section:
    """Return a section that is ``start`` to ``end`` metres outside the given one."""
    margins = np.linspace(start, end, len(section.width)).tolist()
    width, depth = (
        tuple(half + margin for half, margin in zip(halves, margins, strict=True))
        for halves in section
    )
    return Section(width, depth)

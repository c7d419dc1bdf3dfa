"""Identities: everything about a person that survives a change of clothes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = [
    "BeardStyle",
    "Color",
    "Face",
    "Gait",
    "Hair",
    "HairStyle",
    "Person",
    "blend",
    "draw_person",
]

Color = tuple[float, float, float]
"""Red, green, blue in [0, 1] (sRGB values, as stored in files)."""

HairStyle = Literal["bald", "buzz", "short", "afro", "bob", "long", "ponytail", "bun"]
BeardStyle = Literal["none", "stubble", "moustache", "goatee", "full"]

# Chance of each style at the masculine and at the feminine end of `Person.presentation`.
_HAIR_STYLES: dict[HairStyle, tuple[float, float]] = {
    "bald": (0.16, 0.01),
    "buzz": (0.18, 0.03),
    "short": (0.34, 0.12),
    "afro": (0.12, 0.12),
    "bob": (0.06, 0.20),
    "long": (0.06, 0.24),
    "ponytail": (0.04, 0.16),
    "bun": (0.04, 0.12),
}
_BEARD_STYLES: dict[BeardStyle, float] = {
    "none": 0.40,
    "stubble": 0.15,
    "moustache": 0.10,
    "goatee": 0.12,
    "full": 0.23,
}
_SKIN_TONES: tuple[Color, ...] = (
    (1.00, 0.88, 0.80),
    (0.95, 0.78, 0.66),
    (0.87, 0.66, 0.50),
    (0.74, 0.51, 0.35),
    (0.55, 0.35, 0.23),
    (0.35, 0.22, 0.16),
)
_HAIR_COLORS: tuple[tuple[Color, float], ...] = (
    ((0.07, 0.06, 0.07), 0.16),  # black
    ((0.24, 0.15, 0.11), 0.10),  # dark brown
    ((0.44, 0.27, 0.15), 0.13),  # brown
    ((0.68, 0.27, 0.10), 0.14),  # red
    ((0.90, 0.74, 0.40), 0.16),  # blond
    ((0.55, 0.54, 0.54), 0.09),  # grey
    ((0.92, 0.91, 0.89), 0.09),  # white
    ((0.78, 0.18, 0.48), 0.07),  # dyed pink
    ((0.16, 0.36, 0.66), 0.06),  # dyed blue
)
_FRAME_COLORS: tuple[Color, ...] = ((0.05, 0.05, 0.06), (0.35, 0.18, 0.08), (0.55, 0.10, 0.10))


@dataclass(frozen=True, kw_only=True)
class Hair:
    """Hair.

    Attributes:
        style: Cut.
        color: Colour.
        volume: Thickness above the skull, share of the head's radius.
        length: How far long styles hang below the chin, m.
        hairline: Height where hair begins on the forehead, unit-sphere y of the head.
        fringe: Side of the parting in [-1, 1]; the hairline slopes towards it.
    """

    style: HairStyle
    color: Color
    volume: float
    length: float
    hairline: float
    fringe: float


@dataclass(frozen=True, kw_only=True)
class Face:
    """Head and face. Lengths are shares of the head's half-width unless said.

    Attributes:
        aspect: Half-width over half-height of the head.
        eye_distance: Half the distance between the eyes.
        brow: Thickness of the brows.
        nose: Length of the nose.
        mouth: Half-width of the mouth.
        ears: Size of the ears.
        beard: Style of beard.
        beard_color: Its colour.
        glasses: Thickness of the frame of the glasses; 0 is none.
        glasses_color: Colour of the frame.
    """

    aspect: float
    eye_distance: float
    brow: float
    nose: float
    mouth: float
    ears: float
    beard: BeardStyle
    beard_color: Color
    glasses: float
    glasses_color: Color


@dataclass(frozen=True, kw_only=True)
class Gait:
    """Habits of posture and walking. Angles in radians.

    Attributes:
        stride: Largest forward swing of the thigh.
        arm_swing: Largest forward swing of the upper arm.
        elbow: Bend of the elbow at rest.
        splay: Angle of the arms away from the body.
        stoop: Forward lean of the upper body.
        head_tilt: Downward tilt of the head.
        toe_out: Outward turn of the feet.
    """

    stride: float
    arm_swing: float
    elbow: float
    splay: float
    stoop: float
    head_tilt: float
    toe_out: float


@dataclass(frozen=True, kw_only=True)
class Person:
    """One identity. Shares are of the body height; widths are half-widths in metres.

    Attributes:
        height: Body height, m.
        head: Height of the head, share.
        legs: Height of the crotch, share.
        arms: Length of shoulder to wrist, share.
        shoulders: Half-width of the shoulders.
        hips: Half-width of the hips.
        waist: Half-width of the waist.
        girth: Thickness of limbs and belly, 1 is average.
        presentation: 0 masculine .. 1 feminine; steers hair, beard and wardrobe.
        skin: Skin colour.
        hair: Hair.
        face: Face.
        gait: Gait.
    """

    height: float
    head: float
    legs: float
    arms: float
    shoulders: float
    hips: float
    waist: float
    girth: float
    presentation: float
    skin: Color
    hair: Hair
    face: Face
    gait: Gait


def blend(first: Color, second: Color, share: float) -> Color:
    """Return the colour at ``share`` (0..1) of the way from ``first`` to ``second``."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def draw_person(rng: np.random.Generator) -> Person:
    """Draw an identity; every trait is continuous or has continuous nuances."""
    presentation = float(rng.uniform())
    feminine = float(np.clip(2.5 * presentation - 0.75, 0.0, 1.0))
    girth = float(np.exp(rng.normal(0.0, 0.24)))
    shoulders = (0.225 - 0.03 * feminine) * girth**0.35 * float(rng.uniform(0.90, 1.10))
    hips = (0.172 + 0.01 * feminine) * girth**0.5 * float(rng.uniform(0.92, 1.08))
    waist = (0.158 - 0.02 * feminine) * girth**0.8 * float(rng.uniform(0.93, 1.07))
    hair = _draw_hair(rng, feminine)
    return Person(
        height=float(rng.normal(1.76 - 0.11 * feminine, 0.07)),
        head=float(rng.uniform(0.165, 0.210)),
        legs=float(rng.uniform(0.425, 0.505)),
        arms=float(rng.uniform(0.315, 0.355)),
        shoulders=shoulders,
        hips=hips,
        waist=waist,
        girth=girth,
        presentation=presentation,
        skin=_draw_skin(rng),
        hair=hair,
        face=_draw_face(rng, feminine, hair),
        gait=_draw_gait(rng),
    )


def _draw_skin(rng: np.random.Generator) -> Color:
    tone = float(rng.uniform(0.0, len(_SKIN_TONES) - 1.001))
    below = int(tone)
    red, green, blue = blend(_SKIN_TONES[below], _SKIN_TONES[below + 1], tone - below)
    warmth = float(rng.normal(0.0, 0.02))
    return min(red + warmth, 1.0), green, blue - warmth


def _draw_hair(rng: np.random.Generator, feminine: float) -> Hair:
    chances = [(1.0 - feminine) * m + feminine * f for m, f in _HAIR_STYLES.values()]
    style = list(_HAIR_STYLES)[_choice(rng, chances)]
    color = _HAIR_COLORS[_choice(rng, [chance for _, chance in _HAIR_COLORS])][0]
    other = _HAIR_COLORS[int(rng.integers(len(_HAIR_COLORS) - 1))][0]
    color = blend(color, other, 0.35 * float(rng.uniform()) ** 2)
    volumes = {"bald": (0.0, 0.0), "buzz": (0.03, 0.06), "afro": (0.32, 0.60)}
    low, high = volumes.get(style, (0.12, 0.34))
    lengths = {"bob": (-0.06, 0.03), "long": (0.10, 0.40), "ponytail": (0.02, 0.24)}
    shortest, longest = lengths.get(style, (0.0, 0.0))
    return Hair(
        style=style,
        color=color,
        volume=float(rng.uniform(low, high)),
        length=float(rng.uniform(shortest, longest)),
        hairline=float(rng.uniform(0.25, 0.62)),
        fringe=float(rng.uniform(-1.0, 1.0)),
    )


def _draw_face(rng: np.random.Generator, feminine: float, hair: Hair) -> Face:
    beard: BeardStyle = "none"
    drawn = list(_BEARD_STYLES)[_choice(rng, list(_BEARD_STYLES.values()))]
    if feminine < 0.5:
        beard = drawn
    glasses = float(rng.uniform(0.05, 0.13)) if rng.uniform() < 0.35 else 0.0
    return Face(
        aspect=float(rng.uniform(0.70, 0.84)),
        eye_distance=float(rng.uniform(0.34, 0.46)),
        brow=float(rng.uniform(0.03, 0.09)),
        nose=float(rng.uniform(0.22, 0.42)),
        mouth=float(rng.uniform(0.22, 0.38)),
        ears=float(rng.uniform(0.16, 0.28)),
        beard=beard,
        beard_color=blend(hair.color, (0.18, 0.12, 0.10), float(rng.uniform(0.0, 0.5))),
        glasses=glasses,
        glasses_color=_FRAME_COLORS[int(rng.integers(len(_FRAME_COLORS)))],
    )


def _draw_gait(rng: np.random.Generator) -> Gait:
    return Gait(
        stride=float(rng.uniform(0.22, 0.52)),
        arm_swing=float(rng.uniform(0.12, 0.60)),
        elbow=float(rng.uniform(0.08, 0.55)),
        splay=float(rng.uniform(0.08, 0.22)),
        stoop=float(rng.uniform(-0.02, 0.16)),
        head_tilt=float(rng.uniform(-0.08, 0.20)),
        toe_out=float(rng.uniform(0.0, 0.35)),
    )


def _choice(rng: np.random.Generator, weights: list[float]) -> int:
    """Draw an index with the given weights, which need not add up to 1."""
    edges = np.cumsum(weights)
    return int(np.searchsorted(edges, rng.uniform() * edges[-1], side="right"))

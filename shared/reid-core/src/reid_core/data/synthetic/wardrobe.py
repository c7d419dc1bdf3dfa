"""Outfits: everything about a person's look that a change of clothes replaces."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from reid_core.data.synthetic.people import Color, blend

__all__ = [
    "BagKind",
    "Fabric",
    "HatKind",
    "LowerKind",
    "Outfit",
    "Pattern",
    "UpperKind",
    "draw_outfit",
]

Pattern = Literal["plain", "stripes", "pinstripes", "checks", "dots", "logo", "blocks"]
UpperKind = Literal["tshirt", "tank", "shirt", "sweater", "jacket", "coat", "dress"]
LowerKind = Literal["trousers", "slim", "wide", "shorts", "skirt", "none"]
BagKind = Literal["none", "backpack", "shoulder", "handbag"]
HatKind = Literal["none", "cap", "beanie"]

_Key = TypeVar("_Key", bound=str)

_PATTERNS: dict[Pattern, float] = {
    "plain": 0.38,
    "stripes": 0.16,
    "pinstripes": 0.08,
    "checks": 0.12,
    "dots": 0.06,
    "logo": 0.12,
    "blocks": 0.08,
}


@dataclass(frozen=True, kw_only=True)
class Fabric:
    """Material of a garment.

    Attributes:
        pattern: Texture.
        color: Ground colour.
        accent: Colour of the pattern.
        period: Repeat of the pattern, m.
        infrared: Near-infrared reflectance in [0, 1]. Dyes hardly matter there, so it is drawn
            on its own: a black and a white shirt may look alike.
    """

    pattern: Pattern
    color: Color
    accent: Color
    period: float
    infrared: float


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """One set of clothes.

    Attributes:
        upper: Kind of top; a ``dress`` goes with ``lower == "none"``.
        upper_fabric: Its material.
        inner_fabric: What an open jacket or coat shows.
        is_open: Whether a jacket or coat is worn open.
        ease: How far the top stands off the body, m.
        hem: Where the top ends: metres below the waist.
        sleeve: Share of the arm that the sleeve covers.
        lower: Kind of trousers, skirt or shorts.
        lower_fabric: Its material.
        lower_length: Share of the leg that it covers.
        shoes: Colour of the shoes.
        boots: Height of the boots' shaft, share of the calf; 0 is a low shoe.
        bag: Kind of bag.
        bag_side: -1 right, +1 left.
        bag_fabric: Its material.
        hat: Kind of hat.
        hat_fabric: Its material.
        has_scarf: Whether a scarf in the hat's fabric is worn.
    """

    upper: UpperKind
    upper_fabric: Fabric
    inner_fabric: Fabric
    is_open: bool
    ease: float
    hem: float
    sleeve: float
    lower: LowerKind
    lower_fabric: Fabric
    lower_length: float
    shoes: Color
    boots: float
    bag: BagKind
    bag_side: int
    bag_fabric: Fabric
    hat: HatKind
    hat_fabric: Fabric
    has_scarf: bool


# Kind of top: chance, stand-off (m), hem below the waist (m), sleeve (share of the arm).
_UPPERS: dict[
    UpperKind, tuple[float, tuple[float, float], tuple[float, float], tuple[float, float]]
]
_UPPERS = {
    "tshirt": (0.30, (0.010, 0.022), (0.10, 0.20), (0.22, 0.45)),
    "tank": (0.10, (0.006, 0.014), (0.08, 0.18), (0.0, 0.0)),
    "shirt": (0.19, (0.012, 0.026), (0.10, 0.24), (0.90, 1.0)),
    "sweater": (0.16, (0.022, 0.036), (0.10, 0.18), (0.92, 1.0)),
    "jacket": (0.18, (0.030, 0.050), (0.10, 0.26), (0.95, 1.0)),
    "coat": (0.11, (0.036, 0.058), (0.38, 0.72), (0.96, 1.0)),
    "dress": (0.09, (0.008, 0.022), (0.45, 0.80), (0.0, 0.9)),
}
_LOWERS: dict[LowerKind, tuple[float, tuple[float, float]]] = {
    "trousers": (0.36, (0.94, 1.0)),
    "slim": (0.22, (0.90, 0.97)),
    "wide": (0.12, (0.94, 1.0)),
    "shorts": (0.26, (0.36, 0.54)),
    "skirt": (0.20, (0.34, 0.78)),
}
_BAGS: dict[BagKind, float] = {"none": 0.52, "backpack": 0.22, "shoulder": 0.16, "handbag": 0.10}
_HATS: dict[HatKind, float] = {"none": 0.91, "cap": 0.06, "beanie": 0.03}


def draw_outfit(rng: np.random.Generator, presentation: float = 0.5) -> Outfit:
    """Draw an outfit.

    Args:
        rng: Source of randomness.
        presentation: `Person.presentation` of who is to wear it; skirts and dresses are drawn
            from 0.5 on.
    """
    upper = _draw_key(rng, {key: value[0] for key, value in _UPPERS.items()})
    lower = _draw_key(rng, {key: value[0] for key, value in _LOWERS.items()})
    if presentation < 0.5:
        upper = "shirt" if upper == "dress" else upper
        lower = "trousers" if lower == "skirt" else lower
    if upper == "dress":
        lower = "none"
    _, ease, hem, sleeve = _UPPERS[upper]
    length = _LOWERS[lower][1] if lower != "none" else (0.0, 0.0)
    return Outfit(
        upper=upper,
        upper_fabric=_draw_fabric(rng),
        inner_fabric=_draw_fabric(rng),
        is_open=bool(rng.uniform() < 0.55),
        ease=float(rng.uniform(*ease)),
        hem=float(rng.uniform(*hem)),
        sleeve=float(rng.uniform(*sleeve)),
        lower=lower,
        lower_fabric=_draw_fabric(rng, plain=0.75),
        lower_length=float(rng.uniform(*length)),
        shoes=_draw_color(rng),
        boots=float(rng.uniform(0.25, 0.85)) if rng.uniform() < 0.15 else 0.0,
        bag=_draw_key(rng, _BAGS),
        bag_side=1 if rng.uniform() < 0.5 else -1,
        bag_fabric=_draw_fabric(rng, plain=0.8),
        hat=_draw_key(rng, _HATS),
        hat_fabric=_draw_fabric(rng, plain=0.7),
        has_scarf=bool(rng.uniform() < 0.08),
    )


def _draw_fabric(rng: np.random.Generator, plain: float = 0.0) -> Fabric:
    """Draw a material; ``plain`` is the extra chance of no pattern."""
    pattern = _draw_key(rng, _PATTERNS)
    if rng.uniform() < plain:
        pattern = "plain"
    color = _draw_color(rng)
    return Fabric(
        pattern=pattern,
        color=color,
        accent=blend(color, _draw_color(rng), 0.7),
        period=float(rng.uniform(0.06, 0.15)),
        infrared=float(rng.uniform(0.30, 0.85)),
    )


def _draw_color(rng: np.random.Generator) -> Color:
    """Draw a textile colour, muted as most clothes are: many greys, hues of all kinds."""
    hue, value = float(rng.uniform()), float(rng.uniform(0.22, 0.76))
    saturation = 0.08 * float(rng.uniform())
    if rng.uniform() < 0.65:
        saturation = 0.12 + 0.44 * float(rng.beta(1.6, 1.6))
    return colorsys.hsv_to_rgb(hue, saturation, value)


def _draw_key(rng: np.random.Generator, chances: dict[_Key, float]) -> _Key:
    edges = np.cumsum(list(chances.values()))
    place = np.searchsorted(edges, rng.uniform() * edges[-1], side="right")
    return list(chances)[int(place)]

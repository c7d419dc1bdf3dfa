"""Looks of people and clothes without daylight: in the near infrared, and by their warmth."""

from __future__ import annotations

from dataclasses import replace

from reid_core.data.synthetic.people import Color, Person
from reid_core.data.synthetic.scene import Spectrum
from reid_core.data.synthetic.wardrobe import Fabric, Outfit

__all__ = ["seen_outfit", "seen_person"]


def seen_person(person: Person, spectrum: Spectrum) -> Person:
    """Return a person as a camera sees them.

    In the near infrared skin is bright whatever its tone, and hair is lighter than in daylight and
    keeps half of its differences. By warmth skin is brightest, hair hides some of it, and glasses
    are dark: glass lets no body heat through.
    """
    match spectrum:
        case "visible":
            return person
        case "infrared":
            skin = 0.68 + 0.12 * _luma(person.skin)
            hair = 0.22 + 0.5 * _luma(person.hair.color)
            beard = 0.22 + 0.5 * _luma(person.face.beard_color)
            return _in_greys(person, skin=skin, hair=hair, beard=beard)
        case "thermal":
            return _in_greys(person, skin=0.86, hair=0.62 - 0.4 * person.hair.volume, beard=0.70)


def seen_outfit(outfit: Outfit, spectrum: Spectrum) -> Outfit:
    """Return an outfit as a camera sees it: dyes lose their meaning.

    By warmth, prints do not show at all and what stands off the body is cold.
    """
    match spectrum:
        case "visible":
            return outfit
        case "infrared":
            return replace(
                outfit,
                upper_fabric=_infrared_fabric(outfit.upper_fabric),
                inner_fabric=_infrared_fabric(outfit.inner_fabric),
                lower_fabric=_infrared_fabric(outfit.lower_fabric),
                bag_fabric=_infrared_fabric(outfit.bag_fabric),
                hat_fabric=_infrared_fabric(outfit.hat_fabric),
                shoes=_grey(0.35),
            )
        case "thermal":
            upper = 0.68 - 5.0 * outfit.ease
            lower = 0.46 if outfit.lower in ("wide", "skirt") else 0.56
            return replace(
                outfit,
                upper_fabric=_thermal_fabric(outfit.upper_fabric, upper),
                inner_fabric=_thermal_fabric(outfit.inner_fabric, 0.66),
                lower_fabric=_thermal_fabric(outfit.lower_fabric, lower),
                bag_fabric=_thermal_fabric(outfit.bag_fabric, 0.30),
                hat_fabric=_thermal_fabric(outfit.hat_fabric, 0.44),
                shoes=_grey(0.36),
            )


def _in_greys(person: Person, *, skin: float, hair: float, beard: float) -> Person:
    return replace(
        person,
        skin=_grey(skin),
        hair=replace(person.hair, color=_grey(hair)),
        face=replace(person.face, beard_color=_grey(beard), glasses_color=_grey(0.12)),
    )


def _infrared_fabric(fabric: Fabric) -> Fabric:
    # Prints keep a trace of contrast: pigments differ a little in the near infrared too.
    trace = 0.12 * (_luma(fabric.accent) - _luma(fabric.color))
    return replace(fabric, color=_grey(fabric.infrared), accent=_grey(fabric.infrared + trace))


def _thermal_fabric(fabric: Fabric, warmth: float) -> Fabric:
    # What reflects more infrared also keeps more of the body's heat in, and so looks colder.
    level = _grey(warmth - 0.16 * (fabric.infrared - 0.57))
    return replace(fabric, pattern="plain", color=level, accent=level)


def _luma(color: Color) -> float:
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def _grey(value: float) -> Color:
    level = min(max(value, 0.0), 1.0)
    return level, level, level

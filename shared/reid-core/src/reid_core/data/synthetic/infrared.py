"""Near-infrared looks of people and clothes."""

from __future__ import annotations

from dataclasses import replace

from reid_core.data.synthetic.people import Color, Person
from reid_core.data.synthetic.wardrobe import Fabric, Outfit

__all__ = ["infrared_outfit", "infrared_person"]


def infrared_person(person: Person) -> Person:
    """Return a person as a near-infrared camera sees them: grey.

    Skin is bright whatever its tone, hair is lighter than in daylight and keeps half of its
    differences.
    """
    hair, face = person.hair, person.face
    return replace(
        person,
        skin=_grey(0.68 + 0.12 * _luma(person.skin)),
        hair=replace(hair, color=_grey(0.22 + 0.5 * _luma(hair.color))),
        face=replace(
            face,
            beard_color=_grey(0.22 + 0.5 * _luma(face.beard_color)),
            glasses_color=_grey(0.12),
        ),
    )


def infrared_outfit(outfit: Outfit) -> Outfit:
    """Return an outfit as a near-infrared camera sees it: dyes lose their meaning."""
    return replace(
        outfit,
        upper_fabric=_infrared_fabric(outfit.upper_fabric),
        inner_fabric=_infrared_fabric(outfit.inner_fabric),
        lower_fabric=_infrared_fabric(outfit.lower_fabric),
        bag_fabric=_infrared_fabric(outfit.bag_fabric),
        hat_fabric=_infrared_fabric(outfit.hat_fabric),
        shoes=_grey(0.35),
    )


def _infrared_fabric(fabric: Fabric) -> Fabric:
    # Prints keep a trace of contrast: pigments differ a little in the near infrared too.
    trace = 0.12 * (_luma(fabric.accent) - _luma(fabric.color))
    return replace(fabric, color=_grey(fabric.infrared), accent=_grey(fabric.infrared + trace))


def _luma(color: Color) -> float:
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def _grey(value: float) -> Color:
    level = min(max(value, 0.0), 1.0)
    return level, level, level

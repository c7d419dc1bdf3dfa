"""Cameras: what they look at, from where, and how they colour and degrade the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from reid_core.data.synthetic.people import Color

__all__ = [
    "Camera",
    "Place",
    "Site",
    "Spectrum",
    "Style",
    "dimmed",
    "draw_camera",
    "draw_heading",
    "styled",
]

Place = Literal["street", "park", "corridor", "shop", "station", "brick", "glass", "parking"]

Spectrum = Literal["visible", "infrared", "thermal"]
"""What a camera sees by: daylight; near infrared, which its own lamp sheds; or body heat. Readers
call the last two ``infrared``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """What makes the pictures of a camera unlike those of others; the defaults change nothing.

    Attributes:
        gain: Colour cast times exposure, factors of red, green and blue.
        contrast: Factor about mid grey.
        saturation: Factor of the colourfulness.
        blur: Standard deviation of the blur that is added, share of the image height.
        noise: Factor of the sensor noise.
        resolution: Factor of the size of the people it sees.
    """

    gain: Color = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    saturation: float = 1.0
    blur: float = 0.0
    noise: float = 1.0
    resolution: float = 1.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where a camera of a layout hangs.

    Attributes:
        place: Kind of background.
        view: Number of the camera whose background and angle it has; its own, as a rule.
        dimness: Share of daylight that is missing, in [0, 1).
        style: How it shows what it sees by daylight.
    """

    place: Place
    view: int
    dimness: float = 0.0
    style: Style = Style()


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera.

    Attributes:
        place: Kind of background.
        seed: Seed of the background's details.
        spectrum: What it sees by.
        pitch: How far the camera looks down, rad.
        heading: Direction in which most people walk, rad: 0 towards the camera.
        heading_spread: Standard deviation of it, rad.
        from_behind: Share of people who walk the other way.
        light: Direction towards the light: right, up, towards the camera.
        ambient: Share of light from everywhere, in [0, 1].
        gain: Colour cast times exposure, factors of red, green and blue.
        contrast: Factor about mid grey.
        saturation: Factor of the colourfulness.
        blur: Standard deviation of the blur, share of the image height.
        noise: Standard deviation of the sensor noise, in [0, 1].
        occlusion: Share of images with something in front of the person.
        jitter: Standard deviation of the detector's box, share of the box.
        resolution: Size of the people it sees, relative to an average camera.
    """

    place: Place
    seed: int
    spectrum: Spectrum = "visible"
    pitch: float = 0.1
    heading: float = 0.0
    heading_spread: float = 0.4
    from_behind: float = 0.3
    light: tuple[float, float, float] = (0.4, 0.8, 0.7)
    ambient: float = 0.55
    gain: Color = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    saturation: float = 1.0
    blur: float = 0.004
    noise: float = 0.015
    occlusion: float = 0.08
    jitter: float = 0.025
    resolution: float = 1.0


def draw_camera(
    rng: np.random.Generator, index: int = 0, *, spectrum: Spectrum = "visible"
) -> Camera:
    """Draw a camera.

    Args:
        rng: Source of randomness.
        index: Number of the camera; neighbours look at different places.
        spectrum: ``infrared`` is a night camera with its own lamp, ``thermal`` one that needs no
            light and sees less sharply.
    """
    places = get_args(Place)
    exposure = float(rng.uniform(1.00, 1.14))
    warmth, tint = float(rng.normal(0.0, 0.03)), float(rng.normal(0.0, 0.012))
    return Camera(
        place=places[index % len(places)],
        seed=int(rng.integers(2**31)),
        spectrum=spectrum,
        pitch=float(rng.uniform(0.0, 0.34)),
        heading=float(rng.uniform(-0.8, 0.8)),
        heading_spread=float(rng.uniform(0.18, 0.38)),
        from_behind=float(rng.uniform(0.03, 0.12)),
        light=(float(rng.uniform(-0.9, 0.9)), float(rng.uniform(0.5, 1.1)), 0.75)
        if spectrum == "visible"
        else (0.0, 0.2, 1.0),
        # Warm bodies glow by themselves.
        ambient=float(rng.uniform(0.55, 0.75)) + (0.2 if spectrum == "thermal" else 0.0),
        gain=(exposure * (1.0 + warmth), exposure * (1.0 + tint), exposure * (1.0 - warmth)),
        contrast=float(rng.uniform(0.95, 1.10)),
        saturation=float(rng.uniform(0.92, 1.15)),
        blur=float(rng.uniform(0.001, 0.0038)) + (0.006 if spectrum == "thermal" else 0.0),
        noise=float(rng.uniform(0.005, 0.015)) * (1.6 if spectrum == "infrared" else 1.0),
        occlusion=float(rng.uniform(0.0, 0.12)),
        jitter=float(rng.uniform(0.012, 0.035)),
        resolution=float(rng.uniform(0.80, 1.20)),
    )


def dimmed(camera: Camera, dimness: float) -> Camera:
    """Return the camera in less daylight: darker, paler and noisier pictures.

    Args:
        camera: A camera that sees by daylight.
        dimness: Share of the light that is missing, in [0, 1).
    """
    left = 1.0 - dimness
    red, green, blue = camera.gain
    return replace(
        camera,
        gain=(red * left, green * left, blue * left),
        saturation=camera.saturation * (1.0 - 0.6 * dimness),
        noise=camera.noise * (1.0 + 2.0 * dimness),
    )


def styled(camera: Camera, style: Style) -> Camera:
    """Return a camera whose pictures look otherwise; what it looks at stays.

    Args:
        camera: A camera that sees by daylight.
        style: How its pictures differ.
    """
    red, green, blue = (own * factor for own, factor in zip(camera.gain, style.gain, strict=True))
    return replace(
        camera,
        gain=(red, green, blue),
        contrast=camera.contrast * style.contrast,
        saturation=camera.saturation * style.saturation,
        blur=camera.blur + style.blur,
        noise=camera.noise * style.noise,
        resolution=camera.resolution * style.resolution,
    )


def draw_heading(rng: np.random.Generator, camera: Camera) -> float:
    """Draw the direction in which somebody walks past a camera, rad (`Pose.yaw`)."""
    heading = camera.heading + camera.heading_spread * float(rng.normal())
    return heading + (np.pi if rng.uniform() < camera.from_behind else 0.0)
